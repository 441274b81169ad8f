package node

import (
	"errors"
	"fmt"
	"log/slog"

	"fairlead/configs"
	"fairlead/dataplane/packet"
	"fairlead/xdp"
)

// workerSockets are the memory and the sockets of one worker. The control
// process keeps them open for as long as it lives, whatever becomes of the
// data process.
type workerSockets struct {
	umem    *xdp.UMEM
	queues  []queueOf
	sockets []*xdp.Socket // nil while a queue's interface is gone
}

func (w *workerSockets) close() error {
	var errs []error
	for _, s := range w.sockets {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if w.umem != nil {
		errs = append(errs, w.umem.Close())
	}
	return errors.Join(errs...)
}

// carries is the largest IP packet that a frame of the node's memory holds
// behind its Ethernet header and VLAN tags.
func carries(dp *configs.Dataplane) int {
	return dp.FrameSize - xdp.KernelHeadroom - dp.Headroom - packet.EthernetLen - packet.MaxVLANs*packet.VLANLen
}

// frameHeadroom is how many bytes of a frame lie before a received packet.
func frameHeadroom(dp *configs.Dataplane) int { return xdp.KernelHeadroom + dp.Headroom }

// openWorker makes the memory of one worker and opens its sockets.
func openWorker(dp *configs.Dataplane, ports []port, queues []queueOf, log *slog.Logger) (*workerSockets, error) {
	w := &workerSockets{queues: queues, sockets: make([]*xdp.Socket, len(queues))}
	var err error
	w.umem, err = xdp.NewUMEM(xdp.UMEMConfig{
		Chunks: dp.Frames * len(queues), ChunkSize: dp.FrameSize, Headroom: frameHeadroom(dp), HugePages: dp.HugePages,
	})
	if err != nil {
		return nil, err
	}
	if note := w.umem.Note(); note != "" {
		log.Warn(note)
	}
	for i := range queues {
		if w.sockets[i], err = openSocket(dp, ports, w, i, log); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// openSocket opens the i-th socket of a worker. The queue's number in the
// worker stands for its interface in the chunks' custody.
func openSocket(dp *configs.Dataplane, ports []port, w *workerSockets, i int, log *slog.Logger) (*xdp.Socket, error) {
	p := &ports[w.queues[i].port]
	s, err := xdp.Open(xdp.SocketConfig{
		IfIndex: p.index, IfName: p.Name, Queue: w.queues[i].queue, Port: uint16(i), UMEM: w.umem,
		RXSize: dp.RingSize, TXSize: dp.RingSize, FillSize: dp.RingSize, CompletionSize: dp.RingSize,
		ZeroCopy: zeroCopy(p.ZeroCopy), NeedWakeup: p.NeedWakeup, BusyPoll: dp.BusyPoll, BusyPollBudget: dp.BusyPollBudget,
	})
	if err != nil {
		return nil, err
	}
	facts := s.Facts()
	log.Info("AF_XDP socket bound", "interface", p.Name, "queue", w.queues[i].queue, "zero_copy", facts.ZeroCopy, "copy_reason", facts.CopyReason)
	for _, note := range facts.Notes {
		log.Debug(note, "interface", p.Name, "queue", w.queues[i].queue)
	}
	return s, nil
}

func zeroCopy(z configs.ZeroCopy) xdp.ZeroCopy {
	switch z {
	case configs.ZeroCopyOn:
		return xdp.ZeroCopyOn
	case configs.ZeroCopyOff:
		return xdp.ZeroCopyOff
	}
	return xdp.ZeroCopyAuto
}

func queueName(p *port, queue int) string { return fmt.Sprintf("%s queue %d", p.Name, queue) }
