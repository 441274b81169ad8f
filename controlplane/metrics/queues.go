package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// queues are the metrics of interfaces, sockets and their rings.
type queues struct {
	up, xdp                               metric
	info, used, size, lost, fillRingEmpty metric
}

func (q *queues) init() []metric {
	*q = queues{
		up:   gauge("fairlead_interface_up", "Whether an interface is there and up.", "interface"),
		xdp:  counter("fairlead_xdp_frames_total", "Frames that the XDP program has seen, by what became of them. It counts an interface from its attaching on.", "interface", "outcome"),
		info: gauge("fairlead_queue_info", "Always 1; the labels say which worker has the queue and whether its socket is bound with zero copy.", "interface", "queue", "worker", "zero_copy"),
		used: gauge("fairlead_ring_used_entries", "Entries in use of a socket's ring: rx, frames that wait for the worker; tx, frames that wait to be sent; "+
			"fill, room for frames to come; completion, sent frames that the worker has not taken back.", "interface", "queue", "ring"),
		size: gauge("fairlead_ring_size_entries", "Entries that a socket's ring has.", "interface", "queue", "ring"),
		lost: counter("fairlead_socket_lost_frames_total", "Frames that the kernel could not hand to a socket or take from it, by cause. No ledger has them. "+
			"They are counted from the binding of the socket on.", "interface", "queue", "cause"),
		fillRingEmpty: counter("fairlead_socket_fill_ring_empty_total", "Times that the kernel had a frame for a socket and no room to put it.", "interface", "queue"),
	}
	return []metric{q.up, q.xdp, q.info, q.used, q.size, q.lost, q.fillRingEmpty}
}

func (q *queues) collect(to chan<- prometheus.Metric, n *Node) {
	for i := range n.Interfaces {
		p := &n.Interfaces[i]
		q.up.send(to, truth(p.Up), p.Name)
		for _, o := range p.Outcomes {
			q.xdp.send(to, float64(o.Frames), p.Name, o.Name)
		}
	}
	for i := range n.Queues {
		s := &n.Queues[i]
		number := strconv.Itoa(s.Queue)
		q.info.send(to, 1, s.Interface, number, strconv.Itoa(s.Worker), strconv.FormatBool(s.ZeroCopy))
		if !s.Known {
			continue
		}
		for r := range s.Rings {
			q.used.send(to, float64(s.Rings[r].Used), s.Interface, number, RingNames[r])
			q.size.send(to, float64(s.Rings[r].Size), s.Interface, number, RingNames[r])
		}
		q.lost.send(to, float64(s.RXDropped), s.Interface, number, "rx_dropped")
		q.lost.send(to, float64(s.RXRingFull), s.Interface, number, "rx_ring_full")
		q.lost.send(to, float64(s.RXInvalid), s.Interface, number, "rx_invalid")
		q.lost.send(to, float64(s.TXInvalid), s.Interface, number, "tx_invalid")
		q.fillRingEmpty.send(to, float64(s.FillRingEmpty), s.Interface, number)
	}
}
