package xdp_test

import (
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/xdptest"
)

// TestOccupancy follows frames through the rings, as the control process sees
// them: through the socket that it keeps, while the queue is another's.
func TestOccupancy(t *testing.T) {
	const chunks, given, frames = 256, 64, 10
	lab := xdptest.New(t, 1, 1)
	r := newRig(t, lab, 1, 0, xdp.UMEMConfig{Chunks: chunks}, xdp.SocketConfig{RXSize: 64, TXSize: 128, FillSize: 128, CompletionSize: 64, NeedWakeup: true})
	q, s := r.queues[0], r.sockets[0]
	want := func(when string, rings xdp.Occupancy, holding xdp.Holding) {
		t.Helper()
		poll(t, when, func() bool {
			got, err := s.Occupancy()
			if err != nil {
				t.Fatal(err)
			}
			return got == rings && r.umem.Holding() == holding
		})
	}
	want("nothing is used", xdp.Occupancy{}, xdp.Holding{Worker: chunks})

	addrs := make([]uint64, given)
	r.pool.Filled(q.Refill(addrs[:r.pool.TakeForFill(addrs)]))
	want("the fill ring has room", xdp.Occupancy{Fill: given}, xdp.Holding{Worker: chunks - given, Receive: given})

	for i := range frames {
		lab.Inject(t, 0, udp(uint16(i)))
	}
	want("frames wait to be received", xdp.Occupancy{RX: frames, Fill: given - frames}, xdp.Holding{Worker: chunks - given, Receive: given})

	batch := make([]nic.Frame, frames)
	n := q.Receive(batch)
	r.pool.Received(batch[:n])
	want("the worker has them", xdp.Occupancy{Fill: given - frames}, xdp.Holding{Worker: chunks - given + frames, Receive: given - frames})

	r.pool.Sent(batch[:q.Transmit(batch[:n])])
	want("frames wait to be sent", xdp.Occupancy{TX: frames, Fill: given - frames}, xdp.Holding{Worker: chunks - given, Receive: given - frames, Send: frames})

	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	want("frames wait to be taken back", xdp.Occupancy{Completion: frames, Fill: given - frames}, xdp.Holding{Worker: chunks - given, Receive: given - frames, Send: frames})

	done := make([]uint64, frames)
	r.pool.Completed(done[:q.Complete(done)])
	want("they are taken back", xdp.Occupancy{Fill: given - frames}, xdp.Holding{Worker: chunks - given + frames, Receive: given - frames})

	// A closed socket says so.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Occupancy(); err == nil || err.Error() != "xdp: read ring offsets: bad file descriptor" {
		t.Errorf("error %v", err)
	}
}
