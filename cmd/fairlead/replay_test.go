package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

const replayConfig = `
[[interface]]
name = "outside"
mac = "02:00:00:00:01:00"

[[interface]]
name = "inside"
mac = "02:00:00:00:01:01"
mtu = 1500
gateway = "198.18.10.254"

[[neighbor]]
address = "198.18.10.11"
mac = "02:00:00:00:02:11"
interface = "inside"

[[neighbor]]
address = "198.18.10.254"
mac = "02:00:00:00:02:fe"
interface = "inside"

[tunnel]
source_ipv4 = "198.18.10.1"

[[snat]]
address = "198.18.10.2"
ports = "2000-2000"

[[pool]]
name = "web"
[[pool.backend]]
name = "web1"
address = "198.18.10.11:8080"

[[pool]]
name = "far"
[[pool.backend]]
name = "far1"
address = "198.18.99.1"

[[service]]
name = "web"
vip = "198.18.0.10"
protocol = "tcp"
port = 80
pool = "web"

[[service]]
name = "dns"
vip = "198.18.0.53"
protocol = "udp"
port = 53
pool = "far"
method = "ipip"
`

var (
	outsideMAC = [6]byte{2, 0, 0, 0, 1, 0}
	insideMAC  = [6]byte{2, 0, 0, 0, 1, 1}
	clientMAC  = [6]byte{2, 0, 0, 0, 0, 1}
	web1MAC    = [6]byte{2, 0, 0, 0, 2, 0x11}
	captureAt  = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// captured is one frame of a capture.
type captured struct {
	after time.Duration // since the first
	data  []byte
}

// conversation is a few frames of which each has another verdict.
func conversation() []captured {
	outside := packettest.MACs(outsideMAC, clientMAC)
	client, vip := packettest.AddrPort("203.0.113.9:1234"), packettest.AddrPort("198.18.0.10:80")
	dns := packettest.UDP(packettest.AddrPort("203.0.113.9:5353"), packettest.AddrPort("198.18.0.53:53"), outside, packettest.PayloadLen(2000))
	parts := packettest.Fragments(dns, 1500, 0)
	return []captured{
		{0, packettest.TCP(client, vip, outside)},
		{time.Millisecond, packettest.TCP(client, vip, outside, packettest.Flags(packet.TCPFlagACK), packettest.PayloadLen(100))},
		{2 * time.Millisecond, packettest.Echo(client.Addr(), vip.Addr(), 7, 1, outside)},
		{3 * time.Millisecond, packettest.TCP(packettest.AddrPort("203.0.113.9:999"), vip, outside, packettest.Flags(packet.TCPFlagACK))},
		{4 * time.Millisecond, parts[1]},
		{5 * time.Millisecond, packettest.TCP(client, packettest.AddrPort("198.18.0.99:80"), outside)},
		{6 * time.Millisecond, parts[0]},
		{7 * time.Millisecond, packettest.UDP(client, packettest.AddrPort("198.18.0.53:53"), outside, packettest.PayloadLen(4000))},
		{8 * time.Millisecond, packettest.UDP(client, packettest.AddrPort("198.18.0.53:53"), outside, packettest.Fragment(1480, false, 77), packettest.PayloadLen(8))},
	}
}

const conversationVerdicts = `{"n":1,"action":"transmit","reason":"forward_new","service":"web","backend":"web1","generation":1}
{"n":2,"action":"transmit","reason":"forward_flow","service":"web","backend":"web1","generation":1}
{"n":3,"action":"transmit","reason":"echo_reply","service":"","backend":"","generation":1}
{"n":4,"action":"drop","reason":"tcp_not_syn","service":"web","backend":"","generation":1}
{"n":5,"action":"transmit","reason":"fragment_forward","service":"dns","backend":"far1","generation":1}
{"n":6,"action":"pass","reason":"pass_not_ours","service":"","backend":"","generation":1}
{"n":7,"action":"transmit","reason":"forward_new","service":"dns","backend":"far1","generation":1}
{"n":8,"action":"drop","reason":"oversize","service":"","backend":"","generation":1}
{"n":9,"action":"drop","reason":"fragment_timeout","service":"","backend":"","generation":1}
`

const conversationSummary = `frames 9: transmitted 5, passed to the host 1, dropped 3
  transmit  forward_new              2
  transmit  forward_flow             1
  transmit  fragment_forward         1
  transmit  echo_reply               1
  pass      pass_not_ours            1
  drop      tcp_not_syn              1
  drop      fragment_timeout         1
  drop      oversize                 1
ledger balances: received 9 + created 1 = transmitted 6 + passed 1 + dropped 3 + in flight 0
`

// pcap writes a classic capture file of either byte order and resolution.
func pcap(order binary.ByteOrder, nanos bool, frames []captured) []byte {
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&b, order, v)
		}
	}
	magic, unit := uint32(0xa1b2c3d4), time.Microsecond
	if nanos {
		magic, unit = 0xa1b23c4d, time.Nanosecond
	}
	put(magic, uint16(2), uint16(4), int32(0), uint32(0), uint32(65535), uint32(1))
	for _, f := range frames {
		at := captureAt.Add(f.after)
		put(uint32(at.Unix()), uint32(at.Nanosecond()/int(unit)), uint32(len(f.data)), uint32(len(f.data)))
		b.Write(f.data)
	}
	return b.Bytes()
}

// pcapng writes a capture of two interfaces with nanoseconds.
func pcapng(t *testing.T, frames []captured) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "inside", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}, pcapgo.NgWriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	outside, err := w.AddInterface(pcapgo.NgInterface{Name: "outside", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		ci := gopacket.CaptureInfo{Timestamp: captureAt.Add(f.after), CaptureLength: len(f.data), Length: len(f.data), InterfaceIndex: outside}
		if err := w.WritePacket(ci, f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(content)
	w.Close()
	return b.Bytes()
}

// framesOf reads what replay wrote.
func framesOf(t *testing.T, content []byte) (frames []captured) {
	t.Helper()
	r, err := pcapgo.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, captured{ci.Timestamp.Sub(captureAt), data})
	}
}

// TestReplay runs one conversation through captures of every kind.
func TestReplay(t *testing.T) {
	frames := conversation()
	for name, content := range map[string][]byte{
		"pcap":             pcap(binary.LittleEndian, false, frames),
		"pcap-nanoseconds": pcap(binary.LittleEndian, true, frames),
		"pcap-big-endian":  pcap(binary.BigEndian, false, frames),
		"pcap-gzip":        gzipped(pcap(binary.LittleEndian, false, frames)),
		"pcapng":           pcapng(t, frames),
		"pcapng-gzip":      gzipped(pcapng(t, frames)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "f.toml", []byte(replayConfig))
			write(t, dir, "in", content)
			run := func(out, verdicts string) {
				t.Helper()
				r := fairlead(t, dir, "replay", "--config", "f.toml", "--in", "in", "--out", out, "--verdicts", verdicts)
				if r.code != 0 || r.stdout != "" || r.stderr != conversationSummary {
					t.Fatalf("exit status %d, output\n%s\nsummary\n%s\nwant\n%s", r.code, r.stdout, r.stderr, conversationSummary)
				}
			}
			run("out", "verdicts")
			if got := string(read(t, dir, "verdicts")); got != conversationVerdicts {
				t.Errorf("verdicts\n%s\nwant\n%s", got, conversationVerdicts)
			}
			checkConversation(t, framesOf(t, read(t, dir, "out")))
			run("out2", "verdicts2")
			if !bytes.Equal(read(t, dir, "out"), read(t, dir, "out2")) || !bytes.Equal(read(t, dir, "verdicts"), read(t, dir, "verdicts2")) {
				t.Error("a second run wrote something else")
			}
		})
	}
}

// checkConversation looks at the frames that conversation is answered with:
// where they go, and that the first one to a fragment's backend waits for
// nobody.
func checkConversation(t *testing.T, got []captured) {
	t.Helper()
	want := []struct {
		after    time.Duration
		dst, src [6]byte
		end      string // where the IP packet goes
	}{
		{0, web1MAC, insideMAC, "198.18.10.11"},
		{time.Millisecond, web1MAC, insideMAC, "198.18.10.11"},
		{2 * time.Millisecond, clientMAC, outsideMAC, "203.0.113.9"},
		{6 * time.Millisecond, [6]byte{2, 0, 0, 0, 2, 0xfe}, insideMAC, "198.18.99.1"},
		{6 * time.Millisecond, [6]byte{2, 0, 0, 0, 2, 0xfe}, insideMAC, "198.18.99.1"},
		{6 * time.Millisecond, [6]byte{2, 0, 0, 0, 2, 0xfe}, insideMAC, "198.18.99.1"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d frames sent, want %d", len(got), len(want))
	}
	for i, w := range want {
		f := got[i]
		if err := packettest.Verify(f.data); err != nil {
			t.Errorf("frame %d: %v", i+1, err)
		}
		eth := packet.Ethernet(f.data)
		dst := packet.IPv4(f.data[14:]).Dst().String()
		if f.after != w.after || eth.DstMAC() != w.dst || eth.SrcMAC() != w.src || dst != w.end {
			t.Errorf("frame %d: after %v from %x to %x, %s; want after %v from %x to %x, %s", i+1, f.after, eth.SrcMAC(), eth.DstMAC(), dst, w.after, w.src, w.dst, w.end)
		}
	}
}

// TestReplayErrors asserts what is said of captures that cannot be replayed,
// and that what comes before the fault is written all the same.
func TestReplayErrors(t *testing.T) {
	frames := conversation()[:2]
	whole := pcap(binary.LittleEndian, false, frames)
	ng := pcapng(t, frames)
	raw := bytes.Clone(whole)
	raw[20] = 101
	odd := bytes.Clone(whole)
	odd[24+12]-- // the frame was shorter than what was captured of it
	any := pcapng(t, nil)
	for _, c := range []struct {
		name    string
		content []byte
		want    string
		lines   int
	}{
		{"empty", nil, "in: the file is empty", 0},
		{"short", []byte{1, 2, 3}, "in: 3 bytes are no capture file", 0},
		{"text", []byte("hello, world"), "in: neither a pcap nor a pcapng file: it begins with 68656c6c", 0},
		{"header", whole[:20], "in: the file ends in the middle of its header: unexpected EOF", 0},
		{"record", whole[:24+7], "in: the file ends in the middle of frame 1: unexpected EOF", 0},
		{"no data", whole[:24+16], "in: the file ends in the middle of frame 1: unexpected EOF", 0},
		{"data", whole[:len(whole)-1], "in: the file ends in the middle of frame 2: unexpected EOF", 1},
		{"pcapng header", ng[:20], "in: the file ends in the middle of its header: unexpected EOF", 0},
		{"pcapng", ng[:len(ng)-5], "in: the file ends in the middle of frame 2: unexpected EOF", 1},
		{"link type", raw, "in: link type 101 (Raw) is not Ethernet; only captures of Ethernet frames can be replayed", 0},
		{"lengths", odd, "in: frame 1: capture length exceeds original packet length: 54 > 53", 0},
		{"pcapng link type", cooked(t), "in: frame 1: link type 113 (Linux SLL) of interface any is not Ethernet; only captures of Ethernet frames can be replayed", 0},
		{"gzip", gzipped(whole)[:40], "in: the file ends in the middle of frame 1: unexpected EOF", 0},
		{"no frames", any, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "f.toml", []byte(replayConfig))
			write(t, dir, "in", c.content)
			r := fairlead(t, dir, "replay", "-c", "f.toml", "--in", "in", "--out", "out", "--verdicts", "verdicts")
			last := lastLine(r.stderr)
			if c.want == "" {
				if r.code != 0 {
					t.Errorf("exit status %d: %s", r.code, r.stderr)
				}
			} else if r.code != 1 || last != "fairlead: "+c.want {
				t.Errorf("exit status %d, %q; want %q", r.code, last, c.want)
			}
			if n := bytes.Count(read(t, dir, "verdicts"), []byte("\n")); n != c.lines {
				t.Errorf("%d verdicts, want %d", n, c.lines)
			}
			if len(c.content) > 40 && c.lines > 0 {
				if n := len(framesOf(t, read(t, dir, "out"))); n != c.lines {
					t.Errorf("%d frames, want %d", n, c.lines)
				}
			}
		})
	}
}

// cooked is a capture of the pseudo-device any.
func cooked(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "any", LinkType: layers.LinkTypeLinuxSLL}, pcapgo.NgWriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: captureAt, CaptureLength: 60, Length: 60}, make([]byte, 60)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// words splits a command.
func words(text string) []string { return strings.Fields(text) }

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestReplayUsage asserts what is said of wrong commands and configurations.
func TestReplayUsage(t *testing.T) {
	for _, c := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"no capture", replayConfig, nil, `fairlead: required flag(s) "in" not set`},
		{"absent", replayConfig, []string{"--in", "absent"}, "fairlead: open absent: no such file or directory"},
		{"overwrite", replayConfig, []string{"--in", "in", "--out", "in"}, "fairlead: in is the capture to replay; it is not overwritten"},
		{"overwrite with verdicts", replayConfig, []string{"--in", "in", "--verdicts", "./in"}, "fairlead: ./in is the capture to replay; it is not overwritten"},
		{"bad config", "nonsense = 1\n", []string{"--in", "in"}, `fairlead: f.toml:1:1: unknown key "nonsense" before the first table`},
		{"no interface", "", []string{"--in", "in"}, "fairlead: no interface is configured: name at least one in [[interface]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			content := pcap(binary.LittleEndian, false, conversation())
			write(t, dir, "f.toml", []byte(c.config))
			write(t, dir, "in", content)
			r := fairlead(t, dir, append([]string{"replay", "-c", "f.toml"}, c.args...)...)
			code := 1
			if c.args == nil {
				code = 2
			}
			if r.code != code || lastLine(r.stderr) != c.want {
				t.Errorf("exit status %d, %q; want %q", r.code, r.stderr, c.want)
			}
			if !bytes.Equal(read(t, dir, "in"), content) {
				t.Error("the capture has changed")
			}
		})
	}
}
