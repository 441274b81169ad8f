package xdp_test

import (
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/handover"
	"fairlead/xdp/xdptest"
)

// rig is both halves of one worker over a lab: sockets as the control process
// has them, queues as the data process has them.
type rig struct {
	lab     *xdptest.Lab
	umem    *xdp.UMEM
	sockets []*xdp.Socket
	queues  []*xdp.Queue // by port
	pool    *nic.Pool
	waiter  *xdp.Waiter
}

// newRig opens queue number queue of every link of the lab.
func newRig(t testing.TB, lab *xdptest.Lab, links, queue int, umemCfg xdp.UMEMConfig, cfg xdp.SocketConfig) *rig {
	t.Helper()
	umem, err := xdp.NewUMEM(umemCfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{lab: lab, umem: umem}
	t.Cleanup(func() { r.close(t) })
	for port := range links {
		r.sockets = append(r.sockets, r.open(t, port, queue, cfg))
	}
	r.adopt(t)
	var fds []int
	for _, q := range r.queues {
		fds = append(fds, q.FD())
	}
	if r.waiter, err = xdp.NewWaiter(fds); err != nil {
		t.Fatal(err)
	}
	return r
}

// adopt attaches to all sockets and takes them over.
func (r *rig) adopt(t testing.TB) {
	t.Helper()
	for _, s := range r.sockets {
		r.queues = append(r.queues, r.attach(t, s))
	}
	var err error
	if r.pool, _, err = handover.Adopt(r.umem, r.queues...); err != nil {
		t.Fatal(err)
	}
}

// open opens a socket as cfg says on a port, and redirects the queue to it.
func (r *rig) open(t testing.TB, port, queue int, cfg xdp.SocketConfig) *xdp.Socket {
	t.Helper()
	link := r.lab.Link(port)
	cfg.IfIndex, cfg.IfName, cfg.Queue, cfg.Port, cfg.UMEM = link.Index, link.Name, queue, uint16(port), r.umem
	var s *xdp.Socket
	r.lab.Do(t, func() (err error) {
		s, err = xdp.Open(cfg)
		return err
	})
	r.lab.Redirect(t, port, queue, s.FD())
	return s
}

// attach maps a socket's rings through a descriptor of its own, as the data
// process does.
func (r *rig) attach(t testing.TB, s *xdp.Socket) *xdp.Queue {
	t.Helper()
	q, err := xdp.Attach(duplicate(t, s.FD()), r.umem, s.Geometry())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (r *rig) close(t testing.TB) {
	if r.waiter != nil {
		r.waiter.Close()
	}
	for _, q := range r.queues {
		if q != nil {
			q.Close()
		}
	}
	for _, s := range r.sockets {
		if s != nil {
			s.Close()
		}
	}
	if err := r.umem.Close(); err != nil {
		t.Error(err)
	}
}
