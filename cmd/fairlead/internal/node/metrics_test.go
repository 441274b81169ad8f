package node

import (
	"reflect"
	"sync/atomic"
	"testing"

	"fairlead/controlplane/metrics"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/reason"
)

// TestOncePerName asserts that a backend that drains and its successor of the same
// name are one series, with the successor's state.
func TestOncePerName(t *testing.T) {
	one, two := uint64(1), uint64(2)
	got := oncePerName([]metrics.Backend{
		{Name: "a", State: metrics.StateUp, Weight: 3, Tally: metrics.Tally{Packets: 1, Bytes: 2, NewFlows: 3, Drops: 4}, ActiveFlows: &one},
		{Name: "b", State: metrics.StateUp},
		{Name: "a", State: metrics.StateDraining, Tally: metrics.Tally{Packets: 10, Bytes: 20, NewFlows: 30, Drops: 40}, ActiveFlows: &two},
	})
	three := uint64(3)
	want := []metrics.Backend{
		{Name: "a", State: metrics.StateUp, Weight: 3, Tally: metrics.Tally{Packets: 11, Bytes: 22, NewFlows: 33, Drops: 44}, ActiveFlows: &three},
		{Name: "b", State: metrics.StateUp},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestSettledLedger asserts that a ledger is read between two batches, however its
// worker goes on, and that one that does not balance is told as it is.
func TestSettledLedger(t *testing.T) {
	var l ledger.Ledger
	l.Received, l.Beat = 5, 1
	l.Ended[reason.ForwardFlow] = 3
	if got := settledLedger(&l); imbalance(&got) != 2 || got.Beat != 1 {
		t.Errorf("%+v misses %d", got, imbalance(&got))
	}
	l.Ended[reason.TooBig] = 2
	atomic.AddUint64(&l.Beat, 1)
	if got := settledLedger(&l); imbalance(&got) != 0 || got.Received != 5 || got.Beat != 2 {
		t.Errorf("%+v misses %d", got, imbalance(&got))
	}
}

// TestEveryStateIsKnown asserts that metrics know the states that the status names.
func TestEveryStateIsKnown(t *testing.T) {
	for name, state := range metricStates {
		if state.String() != name {
			t.Errorf("%s is %s in metrics", name, state)
		}
	}
	if len(metricStates) != metrics.StateCount {
		t.Errorf("%d of %d states", len(metricStates), metrics.StateCount)
	}
}
