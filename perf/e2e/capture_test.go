package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/controlplane/api"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

// following follows a stream of the node's: f is called for each item, and begun
// is closed by the first.
func following[Item any](w *world, stream func(ctx context.Context, send func(*Item) error) error, f func(*Item)) (begun <-chan struct{}, stop func() error) {
	ctx, cancel := context.WithCancel(w.ctx)
	first, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- stream(ctx, func(item *Item) error {
			f(item)
			once.Do(func() { close(first) })
			return nil
		})
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	w.t.Cleanup(func() { stop() })
	return first, stop
}

// captureOf begins a capture and collects it.
type captureOf struct {
	w    *world
	mu   sync.Mutex
	got  []api.Packet
	mode string
	end  *api.CaptureEnd
	stop func() error
	err  chan error
}

func (w *world) capture(q api.CaptureQuery) *captureOf {
	w.t.Helper()
	if q.Count == 0 {
		q.Count = 1000
	}
	if q.Duration == 0 {
		q.Duration = api.Duration(time.Minute)
	}
	if q.Direction == "" {
		q.Direction = "both"
	}
	q.Snap, q.Sample = 4096, max(q.Sample, 1)
	c := &captureOf{w: w, err: make(chan error, 1)}
	begun, stop := following(w, func(ctx context.Context, send func(*api.CaptureChunk) error) error {
		err := w.client().Capture(ctx, q, send)
		c.err <- err
		return err
	}, func(chunk *api.CaptureChunk) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if chunk.Begun != nil {
			c.mode = chunk.Begun.Memos
		}
		c.got = append(c.got, chunk.Packets...)
		if chunk.End != nil {
			c.end = chunk.End
		}
	})
	c.stop = stop
	select {
	case <-begun:
	case err := <-c.err:
		w.t.Fatalf("the capture does not begin: %v", err)
	}
	return c
}

func (c *captureOf) packets() []api.Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// over waits for the capture's own end.
func (c *captureOf) over() *api.CaptureEnd {
	c.w.t.Helper()
	select {
	case err := <-c.err:
		if err != nil {
			c.w.t.Fatalf("the capture ends with %v", err)
		}
	case <-c.w.ctx.Done():
		c.w.t.Fatal("the capture does not end")
	}
	return c.end
}

// datagrams are frames from the client to a site's name service, no two alike.
func (w *world) datagrams(s *site, port uint16, n, length int) [][]byte {
	var frames [][]byte
	for i := range n {
		payload := bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, (length+50)/3+1)
		frames = append(frames, packettest.UDP(netip.AddrPortFrom(w.clientAddress(s), port), s.at(namePort), w.toVIP(), packettest.Payload(payload[:length+i%50])))
	}
	return frames
}

// TestCaptureFile has the command capture what a client sends to one service
// while other packets pass too: the file has exactly these frames as they came,
// and as they arrive at the backend, with what became of each, and nobody else
// may read it.
func TestCaptureFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	watched, other := w.addSite(nat4), w.addSite(direct4)
	w.start()
	client, backends := w.wire(w.topo.Client), w.wires()
	const n = 100
	file := filepath.Join(t.TempDir(), "web.pcap")
	w.must(os.WriteFile(file, []byte("something old"), 0o644))
	type result struct {
		out, errs string
		code      int
	}
	ended := make(chan result, 1)
	go func() {
		var r result
		r.out, r.errs, r.code = w.fairlead("capture", "-w", file, "--service", watched.service(namePort), "--client", w.topo.Client.IPv4.String(),
			"--reason", "forward_new", "--reason", "forward_flow", "--count", fmt.Sprint(2*n), "--duration", "50s")
		ended <- r
	}()
	w.until("the capture has begun", func() bool {
		content, err := os.ReadFile(file)
		return err == nil && !strings.HasPrefix(string(content), "something")
	})
	sent := w.datagrams(watched, clientPort, n, 200)
	for i, noise := range w.datagrams(other, clientPort+1, n, 100) {
		w.must(client.WriteFrame(sent[i]))
		w.must(client.WriteFrame(noise))
	}
	var arrived [][]byte
	for range n {
		_, frame := first("a datagram of the service", backends, func(f []byte) bool {
			info, ok := parse(f)
			return ok && info.Proto == packet.ProtoUDP && info.DstPort == natOffset+namePort
		})
		arrived = append(arrived, frame)
	}
	r := <-ended
	want := fmt.Sprintf("%d frames captured of %d packets that were selected, 0 left out because they came too fast; ended by count\n", 2*n, n)
	if memos := "flows that are captured do not go by memos of the XDP program meanwhile\n"; r.code != 0 || r.out != "" || strings.TrimPrefix(r.errs, memos) != want {
		t.Errorf("exit status %d, wrote %q and %q, want %q", r.code, r.out, r.errs, want)
	}
	info, err := os.Stat(file)
	w.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
	got := readCapture(t, file)
	if !equalFrames(got[true], sent) {
		t.Errorf("%d frames came in by the file, %d were sent, or they differ", len(got[true]), len(sent))
	}
	if !equalFrames(got[false], arrived) {
		t.Errorf("%d frames left by the file, %d arrived, or they differ", len(got[false]), len(arrived))
	}
	w.balance()
	w.must(w.node.Stop())
}

// readCapture reads the frames of a file, those that came in and those that
// left, and demands that all are said to have been forwarded.
func readCapture(t *testing.T, file string) map[bool][][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	frames := make(map[bool][][]byte)
	last := time.Time{}
	for {
		data, ci, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != ci.Length || time.Since(ci.Timestamp).Abs() > 10*time.Minute || ci.Timestamp.Before(last) {
			t.Errorf("%d of %d bytes at %v, after %v", len(data), ci.Length, ci.Timestamp, last)
		}
		last = ci.Timestamp
		if len(options.Comments) != 1 || !strings.HasPrefix(options.Comments[0], "transmit, forward_") || !strings.Contains(options.Comments[0], "service s1-name, backend ") {
			t.Errorf("comments %q", options.Comments)
		}
		in := options.Flags.Direction == pcapgo.NgEpbFlagDirectionInbound
		frames[in] = append(frames[in], data)
	}
}

// TestCaptureSeesMemoTraffic captures a flow that the XDP program forwards by
// itself: while it is captured, every packet of it goes through a worker and is
// seen, and those of another flow go on by themselves; with memos kept, none of
// its packets is.
func TestCaptureSeesMemoTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	watched, other := w.addSite(ipip4), w.addSite(ipip4)
	w.start()
	client := w.wire(w.topo.Client)
	memo := func() uint64 { return w.status().Steering["memo"] }
	send := func(s *site, n int) {
		for _, f := range w.datagrams(s, clientPort, n, 64) {
			w.must(client.WriteFrame(f))
		}
	}
	// promoted has the flow of a site go by itself.
	promoted := func(s *site) {
		w.t.Helper()
		w.until("the XDP program forwards the flow by itself", func() bool {
			before := memo()
			send(s, 20)
			time.Sleep(time.Millisecond)
			return memo() >= before+20
		})
	}
	promoted(watched)
	promoted(other)

	kept := w.capture(api.CaptureQuery{PacketFilter: api.PacketFilter{Service: watched.service(namePort)}, KeepMemos: true})
	before := memo()
	send(watched, 50)
	w.until("the XDP program has forwarded them", func() bool { return memo() >= before+50 })
	if got := kept.packets(); kept.mode != "kept" || len(got) != 0 {
		t.Errorf("memos are %s: %d packets were seen that went by one", kept.mode, len(got))
	}
	kept.stop()

	const n = 300
	c := w.capture(api.CaptureQuery{PacketFilter: api.PacketFilter{Service: watched.service(namePort)}, Direction: "received", Count: n})
	if c.mode != "off" {
		t.Errorf("memos are %s", c.mode)
	}
	before = memo()
	send(watched, n)
	end := c.over()
	if got := memo() - before; got != 0 {
		t.Errorf("%d packets went by a memo while they were captured", got)
	}
	var frames [][]byte
	for _, p := range c.packets() {
		frames = append(frames, p.Data)
	}
	if !equalFrames(frames, w.datagrams(watched, clientPort, n, 64)) || end.Matched != n || end.Lost != 0 || end.Why != "count" {
		t.Errorf("%d frames were captured, %+v", len(frames), end)
	}
	promoted(other)
	promoted(watched) // once it is no longer captured
	w.balance()
	w.must(w.node.Stop())
}

// TestCaptureLimits asserts how many captures there may be, that each ends with
// its time, its count or its client, and what is said.
func TestCaptureLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(direct4)
	w.start()
	client := w.wire(w.topo.Client)
	a := w.capture(api.CaptureQuery{})
	w.capture(api.CaptureQuery{PacketFilter: api.PacketFilter{Reasons: []string{"too_big"}}})
	third := func() error {
		return w.client().Capture(w.ctx, api.CaptureQuery{Direction: "both", Count: 1, Duration: api.Duration(200 * time.Millisecond), Snap: 64, Sample: 1},
			func(*api.CaptureChunk) error { return nil })
	}
	if err := third(); err == nil || err.Error() != "2 captures are under way already" {
		t.Errorf("a third capture: %v", err)
	}
	a.stop() // its client goes away
	w.until("there is room for another capture", func() bool { return third() == nil })

	timed := w.capture(api.CaptureQuery{Duration: api.Duration(300 * time.Millisecond), Direction: "sent"})
	for _, f := range w.datagrams(s, clientPort, 3, 50) {
		w.must(client.WriteFrame(f))
	}
	if end := timed.over(); end.Why != "duration" || end.Frames != 3 || end.Matched != 3 || len(timed.packets()) != 3 {
		t.Errorf("%+v, %d packets", end, len(timed.packets()))
	}
	sampled := w.capture(api.CaptureQuery{Sample: 1_000_000, Duration: api.Duration(300 * time.Millisecond)})
	for _, f := range w.datagrams(s, clientPort, 50, 50) {
		w.must(client.WriteFrame(f))
	}
	if end := sampled.over(); end.Matched != 50 || end.Frames > 2 {
		t.Errorf("one in a million of 50: %+v", end)
	}
	w.balance()
	w.must(w.node.Stop())
}

// TestCaptureAcrossKill kills the data process again and again during a capture,
// and binds the sockets anew: it goes on with the successors, and what they
// handle is seen.
func TestCaptureAcrossKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	s := w.addSite(direct4)
	w.start()
	client, backends := w.wire(w.topo.Client), w.wires()
	c := w.capture(api.CaptureQuery{PacketFilter: api.PacketFilter{Service: s.service(namePort)}, Direction: "received", Count: 1_000_000})
	const n, kills = 20, 5
	var want [][]byte
	for kill := range kills {
		frames := w.datagrams(s, clientPort+uint16(kill), n, 60)
		want = append(want, frames...)
		for _, f := range frames {
			w.must(client.WriteFrame(f))
		}
		for range frames {
			first("a datagram", backends, func(f []byte) bool { info, ok := parse(f); return ok && info.DstPort == namePort })
		}
		w.until("all are captured", func() bool { return len(c.packets()) >= len(want) })
		w.must(w.node.KillData(w.ctx))
	}
	var got [][]byte
	for _, p := range c.packets() {
		got = append(got, p.Data)
	}
	if !equalFrames(got, want) {
		t.Errorf("%d frames were captured, %d were sent, or they differ", len(got), len(want))
	}
	c.stop()
	w.balance("restart_lost")
	w.must(w.node.Stop())
}

// TestDropSamples sends malformed packets while somebody watches drops: each is
// shown as it was sent, with its reason, and counted; a flood of one kind is
// shown in part and counted in full.
func TestDropSamples(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	w.start()
	client := w.wire(w.topo.Client)
	from := netip.AddrPortFrom(w.topo.Client.IPv4, clientPort)
	web := s.at(webPort)
	truncated := packettest.TCP(from, web, w.toVIP(), packettest.Flags(packet.TCPFlagSYN))
	truncated[46] = 0x10 // a TCP header of 4 bytes
	kinds := map[string][]byte{
		"tcp_flags_invalid":    packettest.TCP(from, web, w.toVIP(), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagFIN)),
		"source_invalid":       packettest.TCP(netip.MustParseAddrPort("224.0.0.9:80"), web, w.toVIP(), packettest.Flags(packet.TCPFlagSYN)),
		"tcp_header_malformed": truncated,
		"service_not_found":    packettest.UDP(from, s.at(4242), w.toVIP(), packettest.PayloadLen(200)),
		"tcp_not_syn":          packettest.TCP(from, web, w.toVIP(), packettest.Flags(packet.TCPFlagACK)),
		"udp_header_malformed": packettest.UDP(from, s.at(namePort), w.toVIP(), packettest.UDPLength(3)),
	}
	var mu sync.Mutex
	samples, counted := map[string][]api.Packet{}, map[string]uint64{}
	begun, stop := following(w, func(ctx context.Context, send func(*api.DropReport) error) error {
		return w.client().WatchDrops(ctx, api.DropQuery{Interval: api.Duration(100 * time.Millisecond), Samples: 3}, send)
	}, func(r *api.DropReport) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range r.Samples {
			samples[p.Reason] = append(samples[p.Reason], p)
		}
		for _, c := range r.Reasons {
			counted[c.Reason] += c.Packets
			if c.Where != "worker" || c.Rate <= 0 {
				t.Errorf("%+v", c)
			}
		}
	})
	<-begun
	for _, frame := range kinds {
		w.must(client.WriteFrame(frame))
	}
	const flood = 2000
	for range flood {
		w.must(client.WriteFrame(kinds["tcp_flags_invalid"]))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("counted %v", counted)
		}
	})
	w.until("all are counted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return counted["tcp_flags_invalid"] == flood+1 && len(counted) == len(kinds)
	})
	w.until("all kinds are shown", func() bool { mu.Lock(); defer mu.Unlock(); return len(samples) == len(kinds) })
	mu.Lock()
	for reason, frame := range kinds {
		if reason != "tcp_flags_invalid" && counted[reason] != 1 {
			t.Errorf("%s: %d are counted", reason, counted[reason])
		}
		for _, p := range samples[reason] {
			if !bytes.Equal(p.Data, frame[:min(128, len(frame))]) || p.Length != len(frame) || p.Action != "drop" || p.Interface != w.topo.Front.Interface.Name || p.Queue != 0 || p.Summary == "" {
				t.Errorf("%s is shown as %+v", reason, p)
			}
		}
	}
	if n := len(samples["tcp_flags_invalid"]); n < 3 || n > 200 {
		t.Errorf("%d packets of the flood are shown", n)
	}
	if p := samples["tcp_not_syn"][0]; p.Service != s.service(webPort) {
		t.Errorf("a packet of %s is shown as one of %q", s.service(webPort), p.Service)
	}
	mu.Unlock()
	if err := stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ends with %v", err)
	}
	w.dropCommands(s, client, kinds)
	w.balance("tcp_flags_invalid", "source_invalid", "tcp_header_malformed", "service_not_found", "tcp_not_syn", "udp_header_malformed")
	w.must(w.node.Stop())
}

// dropCommands demands the same of the commands.
func (w *world) dropCommands(s *site, client *wire, kinds map[string][]byte) {
	w.t.Helper()
	out, _, code := w.fairlead("drops", "-o", "json")
	var drops api.Drops
	w.must(json.Unmarshal([]byte(out), &drops))
	if code != 0 || len(drops.Reasons) != len(kinds) || drops.Reasons[0].Reason != "tcp_flags_invalid" || drops.Reasons[0].Packets != 2001 {
		w.t.Errorf("the command says %s", out)
	}
	if out, _, _ := w.fairlead("drops", "--no-headers"); !strings.HasPrefix(out, "worker  tcp_flags_invalid ") {
		w.t.Errorf("the command says %s", out)
	}
	shown := make(chan string, 1)
	go func() {
		out, _, _ := w.fairlead("drops", "--watch", "--reason", "tcp_not_syn", "--service", s.service(webPort), "--interval", "100ms", "--for", "2s", "-o", "json")
		shown <- out
	}()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for w.ctx.Err() == nil {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if client.WriteFrame(kinds["tcp_not_syn"]) != nil || client.WriteFrame(kinds["service_not_found"]) != nil {
				return
			}
		}
	})
	out = <-shown
	close(stop)
	wg.Wait()
	if want := base64.StdEncoding.EncodeToString(kinds["tcp_not_syn"]); !strings.Contains(out, want) || strings.Contains(out, "service_not_found") {
		w.t.Errorf("the command shows\n%s", out)
	}
}
