package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab/traffic"
)

// TestFragments sends datagrams that kernels cut and put together again: what
// the client sends through every method, and answers of NAT.
func TestFragments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	for _, m := range []method{
		nat4, nat6, ipip4, ipip6, {"ipip", false, true}, {"ipip", true, false},
		gue4, gue6, {"gue", false, true}, {"gue", true, false}, direct4, direct6,
	} {
		w.addSite(m)
	}
	w.serve()
	w.start()
	for _, s := range w.sites {
		for _, size := range []int{1473, 8000, 20000} {
			tally := traffic.UDPLoad{Target: s.at(namePort), Flows: 4, Parallel: 2, PerFlow: 3, PayloadBytes: size}.Run(w.ctx, w.topo.Client.Host)
			if err := tally.Err(); err != nil {
				t.Errorf("%s: datagrams of %d bytes: %v", s.method, size, err)
			}
			if tally.Moves > 0 {
				t.Errorf("%s: %d answers came from another server than the one before", s.method, tally.Moves)
			}
			// IPv6 routers cut nothing: the client learns what fits a tunnel.
			if tally.Retries > 0 && !(s.tunnel() && s.vip6) {
				t.Errorf("%s: %d datagrams of %d bytes had to be sent again", s.method, tally.Retries, size)
			}
		}
	}
	status := w.balance()
	if status.Ledger.Reasons["fragment_forward"] == 0 || status.Ledger.Created == 0 {
		t.Errorf("no fragments were forwarded, or none made: %s", reasons(status))
	}
	w.must(w.node.Stop())
}

// TestFragmentsOutOfOrder sends fragments in orders that a network may bring
// them in: the last one first, and any.
func TestFragmentsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	for _, m := range []method{nat4, nat6, ipip4, gue6, direct4} {
		w.addSite(m)
	}
	w.serve()
	w.start()
	wire := w.wire(w.topo.Client)
	r := rand.New(rand.NewPCG(7, 7))
	id := uint32(0)
	for n, s := range w.sites {
		from := netip.AddrPortFrom(w.clientAddress(s), uint16(30000+n))
		socket, err := w.topo.Client.ListenPacket("udp", from.String())
		w.must(err)
		defer socket.Close()
		deadline, _ := w.ctx.Deadline()
		w.must(socket.SetReadDeadline(deadline))
		for round := range 6 {
			id++
			payload := []byte(fmt.Sprintf("round %d of %s", round, s.method))
			payload = append(payload, make([]byte, 4000)...)
			whole := packettest.UDP(from, s.at(namePort), packettest.ID(id), packettest.Payload(payload),
				packettest.MACs(mac(w.topo.Front.Interface), mac(w.topo.Client.Interface)))
			pieces := packettest.Fragments(whole, 1400, id) // with room for a tunnel
			for i, at := range order(r, round, len(pieces)) {
				if err := wire.WriteFrame(pieces[at]); err != nil {
					t.Fatalf("piece %d: %v", i, err)
				}
			}
			answer := make([]byte, 1<<16)
			got, _, err := socket.ReadFrom(answer)
			if err != nil {
				t.Fatalf("%s, round %d: %v", s.method, round, err)
			}
			if _, body, _ := bytes.Cut(answer[:got], []byte("\n")); !bytes.Equal(body, payload) {
				t.Errorf("%s, round %d: %d bytes came back instead of %d, or others", s.method, round, len(body), len(payload))
			}
		}
	}
	w.balance()
	w.must(w.node.Stop())
}

// order is how n fragments arrive: backwards, or in any order.
func order(r *rand.Rand, round, n int) []int {
	if round > 0 {
		return r.Perm(n)
	}
	var back []int
	for i := n - 1; i >= 0; i-- {
		back = append(back, i)
	}
	return back
}
