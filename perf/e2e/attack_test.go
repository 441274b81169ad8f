package e2e

import (
	"context"
	"testing"
	"time"

	"fairlead/dataplane/reason"
	"fairlead/perf/attack"
)

// TestSYNFlood has a thousand TCP connections live on while a generator floods
// their service with SYNs as fast as it can, on the same cable: none breaks, and
// the flow table, which the flood would fill many times over, keeps them all.
func TestSYNFlood(t *testing.T) {
	const table = 20_000
	for _, method := range []string{"nat", "ipip"} {
		for _, memo := range []string{"off", "on"} {
			t.Run(method+" flow_memo="+memo, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r, err := attack.Run(ctx, attack.Setup{
					Binary: binary, Dir: t.TempDir(), Method: method, FlowMemo: memo, Connections: 1000, Pace: 250 * time.Millisecond,
					TableSize: table, Duration: 2 * time.Second, FloodCPU: 0, WorkerCPU: 1,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Log(r)
				if r.Broken > 0 {
					t.Errorf("%d connections broke, the first: %v", r.Broken, r.Why)
				}
				// Nine tenths are what is wanted, and what a measurement is for.
				// This is far from what a busy machine can make of it.
				if r.Share() < 0.5 {
					t.Errorf("under attack %.0f exchanges a second took place, without %.0f", r.Attack.Rate(), r.Control.Rate())
				}
				if opened := r.Status.Ledger.Reasons[reason.ForwardNew.String()]; opened < 2*table {
					t.Errorf("%d flows were opened: that does not fill the table twice", opened)
				}
				for name, n := range r.Status.Ledger.Reasons {
					switch why, _ := reason.Parse(name); {
					case why.Action() != reason.Drop, why == reason.FlowTableFull, why == reason.TransmitRingFull:
					default:
						t.Errorf("%d frames were dropped: %s", n, name)
					}
				}
			})
		}
	}
}
