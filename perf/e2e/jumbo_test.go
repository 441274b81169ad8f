package e2e

import (
	"testing"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// TestJumbo has links that carry more than a frame of the node's memory holds.
// Connections of NAT agree on segments that fit; what is larger all the same is
// counted.
func TestJumbo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{MTU: 9000}})
	sites := []*site{w.addSite(nat4), w.addSite(nat6)}
	w.serve()
	w.start()
	for _, s := range sites {
		w.http(s, 30)
		w.transfer(s, traffic.Upload, 20<<20)
		w.transfer(s, traffic.Download, 20<<20)
	}
	before := w.balance()
	if n := tooLong(before); n != 0 {
		t.Errorf("%d frames were too long, before any was sent", n)
	}
	conn, err := w.topo.Client.Dial(w.ctx, "udp", sites[0].at(namePort).String())
	w.must(err)
	defer conn.Close()
	for _, size := range []int{2000, 4000, 6000, 8900} {
		_, err := conn.Write(make([]byte, size))
		w.must(err)
	}
	w.must(w.node.Until(w.ctx, func(s *api.Status) bool { return tooLong(s) >= 4 }))
	after := w.balance()
	if n := tooLong(after); n != 4 {
		t.Errorf("%d frames were counted as too long, want 4", n)
	}
	w.must(w.node.Stop())
}

// TestLargeFrames has links of 3,500 bytes and frames to match: packets of that
// size are carried whole, by NAT and behind the smallest headroom there is.
func TestLargeFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{MTU: 3500}})
	w.config.Options = "[dataplane]\nframe_size = 4096\nheadroom = 64"
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip6), w.addSite(gue4), w.addSite(direct4)}
	w.serve()
	w.start()
	for _, s := range sites {
		w.transfer(s, traffic.Upload, 20<<20)
		load := traffic.UDPLoad{Target: s.at(namePort), Flows: 5, PerFlow: 2, PayloadBytes: 3300}
		if err := load.Run(w.ctx, w.topo.Client.Host).Err(); err != nil {
			t.Errorf("%s: datagrams of 3300 bytes: %v", s.method, err)
		}
	}
	status := w.balance()
	if n := tooLong(status); n != 0 {
		t.Errorf("%d frames were too long", n)
	}
	if n := status.Ledger.Reasons["fragment_forward"]; n != 0 {
		t.Errorf("%d fragments were forwarded of packets that fit", n)
	}
	w.must(w.node.Stop())
}

// tooLong counts frames that did not fit: the XDP program knows those in
// several buffers, the kernel's socket those that lie in one.
func tooLong(s *api.Status) uint64 { return s.Steering["oversize"] + s.Sockets["rx_dropped"] }
