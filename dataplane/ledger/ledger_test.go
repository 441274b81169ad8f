package ledger

import (
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
)

// TestCheckShowsTheDifference asserts that one frame too many or too few is an
// error.
func TestCheckShowsTheDifference(t *testing.T) {
	l := &Ledger{Received: 10, Created: 1, InFlight: 2}
	l.Ended[reason.ForwardFlow] = 5
	l.Ended[reason.PassNotOurs] = 1
	l.Ended[reason.TooBig] = 3
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	l.Received++
	want := "ledger: received 11 + created 1 = 12, but transmitted 5 + passed 1 + dropped 3 + in flight 2 = 11"
	if err := l.Check(); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	l.Ended[reason.None]++
	if err := l.Check(); err == nil {
		t.Error("a frame that ended without a reason is no error")
	}
}

// TestRecover asserts that a ledger balances again after its worker died, at
// whatever point of its book-keeping.
func TestRecover(t *testing.T) {
	for _, c := range []struct {
		name               string
		received, ended    uint64
		inFlight, rx       uint64
		taken              uint32
		lost, wantReceived uint64
	}{
		{"between two batches", 100, 97, 3, 100, 100, 3, 100},
		{"frames taken and not counted", 100, 97, 3, 100, 164, 67, 164},
		{"frames counted and not ended", 164, 100, 0, 164, 164, 64, 164},
		{"the index has wrapped", 1<<32 + 5, 1<<32 + 5, 0, 1<<32 + 5, 9, 4, 1<<32 + 9},
		{"ended before received was counted", 100, 101, 0, 100, 100, 0, 101},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &Ledger{Received: c.received, InFlight: c.inFlight}
			l.Ended[reason.ForwardFlow] = c.ended
			l.RX[0] = c.rx
			if lost := l.Recover([]uint32{c.taken}); lost != c.lost {
				t.Errorf("%d lost, %d expected", lost, c.lost)
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			if l.Received != c.wantReceived || l.Restarts != 1 {
				t.Errorf("received %d, restarts %d", l.Received, l.Restarts)
			}
		})
	}
}

// TestRebound asserts that a ledger goes on balanced with fresh sockets, whether
// the worker before stopped in good order or died.
func TestRebound(t *testing.T) {
	for _, c := range []struct {
		name                      string
		received, ended, inFlight uint64
		lost, wantReceived        uint64
	}{
		{"never used", 0, 0, 0, 0, 0},
		{"stopped", 100, 100, 0, 0, 100},
		{"died between two batches", 100, 97, 3, 3, 100},
		{"died in a batch", 164, 100, 0, 64, 164},
		{"died before received was counted", 100, 101, 0, 0, 101},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &Ledger{Received: c.received, InFlight: c.inFlight}
			l.Ended[reason.ForwardFlow] = c.ended
			l.RX[3] = c.received
			l.Rebound()
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			if l.Received != c.wantReceived || l.Ended[reason.RestartLost] != c.lost || l.InFlight != 0 || l.RX[3] != 0 || l.Restarts != 0 {
				t.Errorf("%+v", l)
			}
		})
	}
}

// TestAddAndSent asserts the sums that status shows.
func TestAddAndSent(t *testing.T) {
	var a, b Ledger
	a.Sent(1, []nic.Frame{{Len: 60}, {Len: 100}})
	b.Sent(1, []nic.Frame{{Len: 40}})
	b.Received, b.RX[3], b.Stateless = 4, 4, 1
	a.Add(&b)
	if a.TX[1] != 3 || a.BytesSent != 200 || a.Received != 4 || a.RX[3] != 4 || a.Stateless != 1 {
		t.Errorf("sum %+v", a)
	}
}
