package offline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"fairlead/configs"
	"fairlead/dataplane/explain"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/replay"
)

// explainConfig is the configuration of the packet tables, with pools of
// several backends, of which some have no way to them.
func explainConfig(t *testing.T) *fib.Snapshot {
	t.Helper()
	common, err := os.ReadFile(filepath.Join(packetsDir, "common.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.ReplaceAll(common, []byte(`ports = "40000"`), []byte(`ports = "1024-65535"`))
	text = append(text, `
[[pool]]
name = "many"
[[pool.backend]]
name = "b1"
address = "198.18.10.11"
weight = 3
[[pool.backend]]
name = "b2"
address = "198.18.10.12"
mtu = 1000
[[pool.backend]]
name = "far"
address = "198.18.99.1"
[[pool.backend]]
name = "idle"
address = "198.18.10.13"
weight = 0
[[pool]]
name = "idle"
[[pool.backend]]
address = "198.18.10.13"
weight = 0
`...)
	for i, method := range []string{"nat", "ipip", "gue", "l2"} {
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			text = fmt.Appendf(text, `
[[service]]
name = "many-%[1]s-%[2]s"
vip = "198.18.1.%[3]d"
protocol = "%[2]s"
port = "100-199"
pool = "many"
method = "%[1]s"
source_ranges = ["203.0.113.0/25"]
[[service]]
name = "many-%[1]s-%[2]s-sticky"
vip = "198.18.1.%[3]d"
protocol = "%[2]s"
port = "200-299"
pool = "many"
method = "%[1]s"
affinity = "client_ip"
[[service]]
name = "many-%[1]s-%[2]s-idle"
vip = "198.18.1.%[3]d"
protocol = "%[2]s"
port = 300
pool = "idle"
method = "%[1]s"
`, method, protocol, i)
		}
	}
	cfg, err := configs.Parse("explain.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	s, warnings, err := Snapshot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := `pool "many": backend idle has no route (and 1 more cannot be reached)`; len(warnings) == 0 || warnings[0] != want {
		t.Errorf("warnings %q", warnings)
	}
	return s
}

// randomFlow is a flow that may or may not find a service. No two have the same
// client port, so that each packet is its flow's first.
func randomFlow(rng *rand.Rand, n int) explain.Query {
	ports := []uint16{53, 80, 81, 82, 83, 84, 85, 99, 2905, 150, 250, 300}
	q := explain.Query{Protocol: []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP}[rng.IntN(3)]}
	client, vip := netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(256))}), netip.AddrFrom4([4]byte{198, 18, 1, byte(rng.IntN(5))})
	switch rng.IntN(8) {
	case 0, 1:
		vip = netip.MustParseAddr("198.18.0.10")
	case 2, 3:
		client, vip = netip.MustParseAddr("2001:db8:20::9"), netip.MustParseAddr("2001:db8::10")
	case 4:
		vip = netip.MustParseAddr([]string{"198.18.10.200", "198.18.10.1", "198.18.99.99"}[rng.IntN(3)])
	}
	q.Client = netip.AddrPortFrom(client, uint16(1+n))
	q.Destination = netip.AddrPortFrom(vip, ports[rng.IntN(len(ports))])
	return q
}

// frameOf is the flow's first packet, made by other code than explain's.
func frameOf(q explain.Query, opts ...packettest.Option) []byte {
	opts = append(opts, packettest.MACs([6]byte{2, 0, 0, 0, 1, 0}, [6]byte{2, 0, 0, 0, 0, 1}))
	switch q.Protocol {
	case packet.ProtoTCP:
		return packettest.TCP(q.Client, q.Destination, opts...)
	case packet.ProtoUDP:
		return packettest.UDP(q.Client, q.Destination, opts...)
	}
	return packettest.SCTP(q.Client, q.Destination, opts...)
}

// TestExplainAgreesWithTheWorker compares what explain says of random flows
// with what a worker does that has seen all those before.
func TestExplainAgreesWithTheWorker(t *testing.T) {
	s := explainConfig(t)
	worker, err := replay.New(replay.Config{Snapshot: s, Flows: 65536, ChunkSize: 2048, Headroom: 256})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	reasons := make(map[string]int)
	for n := range 4000 {
		q := randomFlow(rng, n)
		e, err := explain.Explain(s, q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		ended, sent, err := worker.Frame(replay.Frame{Data: frameOf(q)})
		if err != nil || len(ended) != 1 {
			t.Fatalf("%+v: %d verdicts, %v", q, len(ended), err)
		}
		reasons[e.Reason]++
		if problem := compareToWorker(s, e, ended[0], sent); problem != "" {
			t.Fatalf("%s %s %s: %s\n%+v", e.Client, e.Protocol, e.Destination, problem, e)
		}
		if e.MTU != nil && e.Action == "transmit" && q.Protocol != packet.ProtoTCP {
			checkRoom(t, s, q, e)
		}
	}
	for _, name := range []string{"forward_new", "service_not_found", "refused_reply", "source_not_allowed", "next_hop_unresolved", "pass_not_ours", "flow_not_found"} {
		if reasons[name] < 20 {
			t.Errorf("only %d flows with the verdict %s: %v", reasons[name], name, reasons)
		}
	}
}

// compareToWorker says in what an explanation differs from what a worker did,
// "" when in nothing.
func compareToWorker(s *fib.Snapshot, e *explain.Explanation, did replay.Ended, sent []replay.Sent) string {
	service, backend := "", ""
	if e.Service != nil && did.Service != "" {
		service = e.Service.Name
	}
	if e.Backend != nil {
		backend = e.Backend.Name
	}
	got := fmt.Sprintf("%s %s service=%s backend=%s", e.Action, e.Reason, service, backend)
	want := fmt.Sprintf("%v %v service=%s backend=%s", did.Verdict.Action, did.Verdict.Reason, did.Service, did.Backend)
	if got != want {
		return fmt.Sprintf("explained %s, the worker says %s", got, want)
	}
	if e.Backend != nil && !e.Service.Affinity {
		pool := s.Pool(s.Services()[did.Verdict.Service].Pool)
		member := s.Backend(s.Members(pool)[s.Table(pool)[e.Hash.Slot]])
		if s.BackendName(member) != backend {
			return fmt.Sprintf("slot %d is %s's, the backend is %s", e.Hash.Slot, s.BackendName(member), backend)
		}
	}
	if (e.Rewrite != nil || e.Reason == reason.RefusedReply.String()) != (len(sent) == 1) {
		return fmt.Sprintf("the worker sent %d frames", len(sent))
	}
	if e.Rewrite == nil {
		return ""
	}
	var info packet.Info
	if r := packet.Parse(sent[0].Data, &info); r != reason.None {
		return "the worker sent a frame that is " + r.String()
	}
	mac := packet.Ethernet(sent[0].Data).DstMAC()
	source, destination := info.Src.String(), info.Dst.String()
	if info.SrcPort != 0 {
		source, destination = netip.AddrPortFrom(info.Src.Netip(), info.SrcPort).String(), netip.AddrPortFrom(info.Dst.Netip(), info.DstPort).String()
	}
	if len(e.Rewrite.SNAT) > 0 { // which port is free depends on the flows before
		source, e.Rewrite.Source = "", ""
	}
	if e.Rewrite.Source != source || e.Rewrite.Destination != destination || e.NextHop.MAC != net.HardwareAddr(mac[:]).String() {
		return fmt.Sprintf("the worker sent %s > %s to %x", source, destination, mac)
	}
	return ""
}

// checkRoom sends the largest packet that fits and one that is a byte longer.
func checkRoom(t *testing.T, s *fib.Snapshot, q explain.Query, e *explain.Explanation) {
	t.Helper()
	headers := len(frameOf(q)) - packet.EthernetLen
	for more, want := range []string{"forward_new", "too_big_reply"} {
		r, err := replay.New(replay.Config{Snapshot: s, Flows: 1024, ChunkSize: 2048, Headroom: 128})
		if err != nil {
			t.Fatal(err)
		}
		frame := frameOf(q, packettest.PayloadLen(int(e.MTU.Room)+more-headers), packettest.DF())
		ended, _, err := r.Frame(replay.Frame{Data: frame})
		if err != nil {
			t.Fatal(err)
		}
		if got := ended[0].Verdict.Reason.String(); got != want {
			t.Fatalf("%+v: room for %d, and a packet of %d is %s", q, e.MTU.Room, int(e.MTU.Room)+more, got)
		}
	}
}
