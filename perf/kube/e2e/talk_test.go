package e2e

import (
	"fmt"
	"net/netip"
	"time"

	"fairlead/perf/lab/traffic"
)

// talk are long-lived TCP connections on which something is always said.
type talk struct {
	w   *world
	all []*traffic.Pinger
}

// talk opens n long-lived connections from the client to port 7 of a VIP.
func (w *world) talk(vip netip.Addr, n int) *talk {
	w.t.Helper()
	k := &talk{w: w}
	for range n {
		one, err := traffic.StartPinger(w.ctx, w.rack.Client.Host, traffic.PingerConfig{Target: netip.AddrPortFrom(vip, 7), Interval: 20 * time.Millisecond})
		w.must(err)
		k.all = append(k.all, one)
	}
	k.await(1)
	return k
}

// await returns when every connection has had n more echoes; one that breaks ends
// the test.
func (k *talk) await(n uint64) {
	k.w.t.Helper()
	from := make([]uint64, len(k.all))
	for i, one := range k.all {
		from[i] = one.Received()
	}
	for i, one := range k.all {
		k.w.until("a connection has had more echoes", func() string {
			select {
			case <-one.Broken():
				_, err := one.Stop(k.w.ctx)
				k.w.t.Fatal(err)
			default:
			}
			if got := one.Received(); got < from[i]+n {
				return fmt.Sprintf("%d of %d", got-from[i], n)
			}
			return ""
		})
	}
}

// servers counts the connections of each server.
func (k *talk) servers() map[string]int {
	count := map[string]int{}
	for _, one := range k.all {
		count[one.Server()]++
	}
	return count
}

// stop ends the connections and demands that each brought back everything that was
// said.
func (k *talk) stop() {
	k.w.t.Helper()
	for _, one := range k.all {
		if _, err := one.Stop(k.w.ctx); err != nil {
			k.w.t.Error(err)
		}
	}
}
