package replay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

var (
	firstMAC  = [6]byte{2, 0, 0, 0, 1, 0}
	secondMAC = [6]byte{2, 0, 0, 0, 1, 1}
	vip       = packettest.AddrPort("198.18.0.10:53")
	client    = packettest.AddrPort("203.0.113.9:5353")
)

func addr(s string) packet.Addr { return packet.AddrFrom(packettest.Addr(s)) }

// snapshot has two interfaces and one service, UDP 198.18.0.10:53, by method
// l2 to one backend. Its flows time out after half an hour.
func snapshot(t testing.TB, generation uint64, edit ...func(*fib.Builder)) *fib.Snapshot {
	t.Helper()
	b := &fib.Builder{}
	b.Settings = fib.Settings{HashSeed: [2]uint64{1, 2}, OuterTTL: 64, FragHold: 4, FragHoldMS: 500, FragTrackMS: 5000, ReplyRate: 10, ReplyBurst: 2}
	b.Interfaces = []fib.Interface{
		{MAC: firstMAC, MTU: 1500, Gateway: fib.NoIndex, Name: b.Name("outside")},
		{MAC: secondMAC, MTU: 1500, Gateway: fib.NoIndex, Name: b.Name("inside")},
	}
	b.NextHops = []fib.NextHop{{DstMAC: [6]byte{2, 0, 0, 0, 2, 0}, SrcMAC: secondMAC, Port: 1, Resolved: 1, MTU: 1500}}
	const half = 1_800_000
	b.Timeouts = []fib.Timeouts{{TCPSynSent: half, TCPEstablished: half, TCPFinWait: half, TCPClose: half, UDP: half, UDPStream: half, SCTP: half, ICMP: half}}
	b.Locals = []fib.Local{{Addr: addr("198.18.0.10"), ID: 1, Kind: fib.LocalVIP, Flags: fib.LocalAnswerARP, SNAT: fib.NoIndex}}
	b.Pools = []fib.Pool{{MemberCount: 1, TableSize: 2, Name: b.Name("pool")}}
	b.Tables, b.Members = []uint16{0, 0}, []uint32{0}
	b.Backends = []fib.Backend{{Addr: addr("198.18.10.11"), ID: fib.MakeID(0, 1), Weight: 1, Name: b.Name("b1")}}
	b.Services = []fib.Service{{ID: fib.MakeID(0, 1), Local: 1, PortFirst: 53, PortLast: 53, Proto: packet.ProtoUDP, Method: fib.MethodL2, Name: b.Name("dns")}}
	b.Matches = []fib.PortMatch{{Local: 1, Proto: packet.ProtoUDP, PortFirst: 53, PortLast: 53}}
	for _, e := range edit {
		e(b)
	}
	image, err := b.Encode(generation)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func config(t testing.TB) Config {
	return Config{Snapshot: snapshot(t, 7), Flows: 1024, ChunkSize: 2048, Headroom: 256}
}

func newReplay(t testing.TB) *Replay {
	t.Helper()
	r, err := New(config(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reasonOf carries a frame through that must end at once.
func reasonOf(t *testing.T, r *Replay, at time.Time, frame []byte) reason.Reason {
	t.Helper()
	ended, _, err := r.Frame(Frame{Data: frame, Time: at})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	if len(ended) != 1 {
		t.Fatalf("%d verdicts", len(ended))
	}
	return ended[0].Verdict.Reason
}

// TestClock follows the capture's time, whatever that does.
func TestClock(t *testing.T) {
	c := newClock()
	start := time.Unix(1_700_000_000, 0)
	for i, step := range []struct {
		at   time.Time
		want time.Duration
	}{
		{time.Time{}, 0},
		{start, longestGap}, // from 1970, where a capture without times is
		{start.Add(400 * time.Microsecond), 0},
		{start.Add(900 * time.Microsecond), 0},
		{start.Add(1100 * time.Microsecond), time.Millisecond},
		{start, 0},       // backwards
		{time.Time{}, 0}, // a frame without a time
		{start.Add(3100 * time.Microsecond), 2 * time.Millisecond},
		{start.Add(200 * 365 * 24 * time.Hour), longestGap},
	} {
		if got := c.advance(step.at); got != step.want {
			t.Errorf("step %d: %v, want %v", i+1, got, step.want)
		}
	}
	if c.now != clockStart {
		t.Error("advance moves the clock, which is idle's work")
	}
}

// TestTimePasses shows a flow that is known until its timeout, across gaps of
// any length, and never twice.
func TestTimePasses(t *testing.T) {
	frame := packettest.UDP(client, vip)
	r, at := newReplay(t), time.Unix(1_000_000_000, 0)
	for i, step := range []struct {
		after time.Duration
		want  reason.Reason
	}{
		{0, reason.ForwardNew},
		{29 * time.Minute, reason.ForwardFlow},
		{29 * time.Minute, reason.ForwardFlow},
		{31 * time.Minute, reason.ForwardNew},
		{-time.Hour, reason.ForwardFlow},
		{2 * time.Hour, reason.ForwardNew},
		{10 * 24 * time.Hour, reason.ForwardNew},
		{20 * 24 * time.Hour, reason.ForwardNew},
		{24 * 24 * time.Hour, reason.ForwardNew},
		{25 * 24 * time.Hour, reason.ForwardNew},
		{49*24*time.Hour + 17*time.Hour, reason.ForwardNew}, // when a 32-bit clock of milliseconds comes round
		{100 * 365 * 24 * time.Hour, reason.ForwardNew},
		{time.Second, reason.ForwardFlow},
	} {
		at = at.Add(step.after)
		if got := reasonOf(t, r, at, frame); got != step.want {
			t.Errorf("step %d, after %v: %v, want %v", i+1, step.after, got, step.want)
		}
	}
}

// TestIdleSweeps shows that what has timed out is freed while nothing comes:
// the table takes as many flows again.
func TestIdleSweeps(t *testing.T) {
	r, at := newReplay(t), time.Unix(1_000_000_000, 0)
	for range 3 {
		for port := range uint16(1000) {
			frame := packettest.UDP(packettest.AddrPort(fmt.Sprintf("203.0.113.9:%d", port+1)), vip)
			if got := reasonOf(t, r, at, frame); got != reason.ForwardNew {
				t.Fatalf("port %d: %v", port+1, got)
			}
		}
		at = at.Add(time.Hour)
		r.idle(r.clock.advance(at))
		if n := r.flows.Worker(0).Sweep(r.clock.now, 2*r.flows.Capacity()); n != 0 {
			t.Fatalf("%d flows were left to sweep", n)
		}
	}
}

// TestHeldFragmentsKeepTheOrder shows that verdicts come in the order of the
// frames, however long one is held.
func TestHeldFragmentsKeepTheOrder(t *testing.T) {
	r := newReplay(t)
	parts := packettest.Fragments(packettest.UDP(client, vip, packettest.PayloadLen(2500)), 1000, 0)
	order := []int{1, 2, 0}
	var got []uint64
	for i, part := range order {
		ended, _, err := r.Frame(Frame{Data: parts[part]})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ended {
			got = append(got, e.N)
		}
		if want := []int{0, 0, 3}[i]; len(got) != want {
			t.Fatalf("after frame %d: verdicts on %v", i+1, got)
		}
	}
	ended, _, err := r.Frame(Frame{Data: packettest.UDP(client, vip, packettest.Fragment(800, false, 99), packettest.PayloadLen(8))})
	if err != nil || len(ended) != 0 {
		t.Fatalf("%v, %v", ended, err)
	}
	ended, err = r.End()
	if err != nil || len(ended) != 1 || ended[0].N != 4 || ended[0].Verdict.Reason != reason.FragmentTimeout {
		t.Errorf("at the end: %+v, %v", ended, err)
	}
	for i, n := range got {
		if n != uint64(i+1) {
			t.Errorf("order %v", got)
		}
	}
}

// TestOversize shows what becomes of frames that fit no chunk.
func TestOversize(t *testing.T) {
	r := newReplay(t)
	if r.Longest() != 1536 {
		t.Fatalf("the longest frame is %d", r.Longest())
	}
	sized := func(dst string, n int) []byte {
		return packettest.UDP(client, packettest.AddrPort(dst), packettest.PayloadLen(n-42), packettest.DF())
	}
	for _, c := range []struct {
		frame []byte
		want  reason.Reason
	}{
		{sized("198.18.0.10:53", 1536), reason.TooBigReply},
		{sized("198.18.0.10:53", 1537), reason.Oversize},
		{sized("198.18.0.99:53", 1537), reason.PassNotOurs},
		{sized("198.18.0.10:53", 65000), reason.Oversize},
		{make([]byte, 100000), reason.Oversize},
		{append([]byte(nil), bytes.Repeat([]byte{0x88, 0xcc}, 1000)...), reason.PassNonIP},
	} {
		if got := reasonOf(t, r, time.Time{}, c.frame); got != c.want {
			t.Errorf("%d bytes: %v, want %v", len(c.frame), got, c.want)
		}
	}
}

// TestPorts finds the interface that a frame arrives on.
func TestPorts(t *testing.T) {
	p := portsOf(snapshot(t, 1))
	to := func(mac [6]byte) []byte { return packettest.UDP(client, vip, packettest.MACs(mac, [6]byte{2})) }
	for _, c := range []struct {
		name     string
		frame    []byte
		captured string
		want     uint16
	}{
		{"by address", to(secondMAC), "", 1},
		{"the address before the name", to(firstMAC), "inside", 0},
		{"by name", to([6]byte{2, 9}), "inside", 1},
		{"a group, by name", to([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), "inside", 1},
		{"neither", to([6]byte{2, 9}), "eth7", 0},
		{"too short for an address", []byte{1, 2}, "inside", 1},
	} {
		if got := p.of(c.frame, c.captured); got != c.want {
			t.Errorf("%s: port %d, want %d", c.name, got, c.want)
		}
	}
}

// TestPublish swaps the snapshot between two frames.
func TestPublish(t *testing.T) {
	r := newReplay(t)
	frame := packettest.UDP(client, vip)
	ended, _, err := r.Frame(Frame{Data: frame})
	if err != nil || ended[0].Service != "dns" || ended[0].Backend != "b1" || ended[0].Generation != 7 {
		t.Fatalf("%+v, %v", ended, err)
	}
	renamed := snapshot(t, 8, func(b *fib.Builder) { b.Services[0].Name = b.Name("domain") })
	if err := r.Publish(renamed); err != nil {
		t.Fatal(err)
	}
	ended, _, err = r.Frame(Frame{Data: frame})
	if err != nil || ended[0].Service != "domain" || ended[0].Generation != 8 || ended[0].Verdict.Reason != reason.ForwardFlow {
		t.Fatalf("%+v, %v", ended, err)
	}
	for _, c := range []struct {
		edit func(*fib.Builder)
		want string
	}{
		{func(b *fib.Builder) { b.Interfaces = append(b.Interfaces, b.Interfaces[0]) }, "replay: a snapshot of 3 interfaces cannot follow one of 2"},
		{func(b *fib.Builder) { b.Services = append(b.Services, make([]fib.Service, 100)...) }, "replay: a snapshot of 101 services and 1 backends, there are counters for 65 and 65"},
	} {
		if err := r.Publish(snapshot(t, 9, c.edit)); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestNewErrors asserts what is said of what cannot be replayed on.
func TestNewErrors(t *testing.T) {
	for _, c := range []struct {
		edit func(*Config)
		want string
	}{
		{func(c *Config) {
			c.Snapshot = snapshot(t, 1, func(b *fib.Builder) { b.Interfaces, b.NextHops, b.Backends[0].NextHop = nil, nil, fib.NoIndex })
		}, "replay: 0 interfaces, 1 to 16 are possible"},
		{func(c *Config) { c.ChunkSize = 3000 }, "replay: chunk size 3000 is not a power of two"},
		{func(c *Config) { c.Headroom = 2048 }, "replay: headroom 2304 does not fit a chunk of 2048 bytes"},
		{func(c *Config) { c.Flows = 0 }, fmt.Sprintf("replay: flow table for 0 flows: want 1 to %d", flow.MaxFlows)},
	} {
		cfg := config(t)
		c.edit(&cfg)
		if _, err := New(cfg); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if _, _, err := newReplay(t).Frame(Frame{Port: 2}); err == nil || err.Error() != "replay: port 2, there are 2" {
		t.Errorf("a port that is not there: %v", err)
	}
}

// failing is a file on a full disk.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestWriteErrors shows that a result that could not be written is an error.
func TestWriteErrors(t *testing.T) {
	in := capture4(t, packettest.UDP(client, vip))
	for name, files := range map[string][2]io.Writer{"frames": {failing{}, io.Discard}, "verdicts": {io.Discard, failing{}}} {
		if _, err := Run(config(t), bytes.NewReader(in), "in", files[0], files[1]); err == nil || !strings.Contains(err.Error(), io.ErrShortWrite.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// capture4 is a pcap file of frames a millisecond apart.
func capture4(t testing.TB, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1_000_000_000, int64(i)*1e6), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(ci, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// pcapngOf is a pcapng file of the same.
func pcapngOf(t testing.TB, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1_000_000_000, int64(i)*1e6), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(ci, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzRun replays arbitrary files: whatever they hold, every frame that can be
// read has one verdict, in order, the ledger balances, and what is written is
// what is counted.
func FuzzRun(f *testing.F) {
	parts := packettest.Fragments(packettest.UDP(client, vip, packettest.PayloadLen(1500)), 1000, 0)
	frames := [][]byte{packettest.UDP(client, vip), parts[1], parts[0], packettest.ARPRequest(client.Addr(), vip.Addr()), {1, 2, 3}}
	f.Add(capture4(f, frames...))
	f.Add(pcapngOf(f, frames...))
	f.Add(capture4(f))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var out, verdicts bytes.Buffer
		s, err := Run(config(t), bytes.NewReader(in), "in", &out, &verdicts)
		if err != nil && !strings.HasPrefix(err.Error(), "in: ") {
			t.Fatalf("the error does not name the file: %v", err)
		}
		if s == nil {
			return
		}
		if err := s.Ledger.Check(); err != nil || s.Ledger.Received != s.Frames || s.Ledger.InFlight != 0 {
			t.Fatalf("%v, %+v", err, s)
		}
		lines := json.NewDecoder(&verdicts)
		for n := uint64(1); n <= s.Frames; n++ {
			var line Line
			if err := lines.Decode(&line); err != nil || line.N != n || line.Generation != 7 {
				t.Fatalf("line %d: %+v, %v", n, line, err)
			}
			if r, known := reason.Parse(line.Reason); !known || r.Action().String() != line.Action {
				t.Fatalf("line %d: %+v", n, line)
			}
		}
		if lines.More() {
			t.Fatal("more verdicts than frames")
		}
		if sent, want := countFrames(t, out.Bytes()), s.Ledger.Sum(reason.Transmit); sent != want {
			t.Fatalf("%d frames written, %d transmitted", sent, want)
		}
	})
}

func countFrames(t *testing.T, pcap []byte) (n uint64) {
	t.Helper()
	if magic := binary.LittleEndian.Uint32(pcap); magic != magicMicros && magic != magicNanos {
		t.Fatalf("the output begins with %x", magic)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(pcap))
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := r.ReadPacketData(); err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// BenchmarkRun replays packets of one known flow.
func BenchmarkRun(b *testing.B) {
	frames := make([][]byte, b.N)
	frame := packettest.UDP(client, vip, packettest.PayloadLen(100))
	for i := range frames {
		frames[i] = frame
	}
	in := capture4(b, frames...)
	b.ResetTimer()
	if _, err := Run(config(b), bytes.NewReader(in), "in", io.Discard, io.Discard); err != nil {
		b.Fatal(err)
	}
}
