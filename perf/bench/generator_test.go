package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
)

// captureTime bounds the wait for frames.
const captureTime = 10 * time.Second

// capture returns a function that reads the next IPv4 frame that arrives at an
// interface.
func capture(t *testing.T, at *lab.Interface) func() []byte {
	t.Helper()
	conn, err := at.Host.PacketConn(at.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, conn) })
	return func() []byte {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(captureTime)); err != nil {
			t.Fatal(err)
		}
		for {
			frame, err := conn.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if isTraffic(frame) {
				return bytes.Clone(frame)
			}
		}
	}
}

// isTraffic tells a packet from what hosts on an IPv6 link tell each other.
func isTraffic(frame []byte) bool {
	const hopByHop, icmpv6 = 0, 58
	switch {
	case len(frame) < ethernetLen+ipv4Len:
		return false
	case binary.BigEndian.Uint16(frame[12:]) == etherIPv4:
		return true
	}
	return binary.BigEndian.Uint16(frame[12:]) == etherIPv6 && frame[20] != hopByHop && frame[20] != icmpv6
}

// flowOf is the number of the flow that a stream's frame belongs to.
func (s *stream) flowOf(frame []byte) int {
	client := int(binary.BigEndian.Uint16(frame[s.clientLow():]))
	port := int(binary.BigEndian.Uint16(frame[s.l4():]))
	return client*portsPerClient + port - firstPort
}

// clientLow is where the last two bytes of the source address are.
func (s *stream) clientLow() int {
	if s.IPv6 {
		return ethernetLen + 22
	}
	return ethernetLen + 14
}

// TestGenerator looks at the frames of streams of all kinds on a packet socket
// at the balancer's interface.
func TestGenerator(t *testing.T) {
	k := newTestKit(t, nil)
	w := testWorld(t, k, 2)
	// A veth takes live frames in only where there is a program.
	attached, err := attachXDP(w.in, objectProgPass, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, attached) })

	const rate = 20_000
	for _, c := range []struct {
		name    string
		stream  stream
		frames  int // to look at
		flows   int // different ones that must be among them
		opening byte
		flags   byte
	}{
		{"udp 60", stream{Case: Case{Protocol: udp, Size: 60, Flows: 100}, opening: 1}, 400, 100, 0, 0},
		{"udp 512", stream{Case: Case{Protocol: udp, Size: 512, Flows: 1}, opening: 1}, 50, 1, 0, 0},
		{"udp 1450 many clients", stream{Case: Case{Protocol: udp, Size: 1450, Flows: 1_000_000}}, 300, 300, 0, 0},
		{"udp odd length", stream{Case: Case{Protocol: udp, Size: 61, Flows: 10}, opening: 1}, 50, 10, 0, 0},
		{"udp endless", stream{Case: Case{Protocol: udp, Size: 60, Flows: endless}}, 300, 300, 0, 0},
		{"udp stamped", stream{Case: Case{Protocol: udp, Size: 60, Flows: 10}, opening: 1, stamped: true}, 100, 10, 0, 0},
		{"udp stamped 1450", stream{Case: Case{Protocol: udp, Size: 1450, Flows: 10}, opening: 1, stamped: true}, 100, 10, 0, 0},
		{"tcp opened", stream{Case: Case{Protocol: tcp, Size: 60, Flows: 100}, opening: 2, openWithSYN: true}, 500, 100, tcpSYN, tcpACK},
		{"tcp midstream", stream{Case: Case{Protocol: tcp, Size: 60, Flows: 100}, opening: 1}, 300, 100, tcpACK, tcpACK},
		{"tcp opened and settled", stream{Case: Case{Protocol: tcp, Size: 60, Flows: 50}, opening: 1, settling: 3, openWithSYN: true}, 400, 50, tcpSYN, tcpACK},
		{"tcp 1450", stream{Case: Case{Protocol: tcp, Size: 1450, Flows: 10}, opening: 1, openWithSYN: true}, 60, 10, tcpSYN, tcpACK},
		{"tcp endless SYNs", stream{Case: Case{Protocol: tcp, Size: 60, Flows: endless}}, 300, 300, 0, tcpSYN},
		{"udp 62 over IPv6", stream{Case: Case{Protocol: udp, IPv6: true, Size: 62, Flows: 100}, opening: 1}, 400, 100, 0, 0},
		{"udp 1450 over IPv6, many clients", stream{Case: Case{Protocol: udp, IPv6: true, Size: 1450, Flows: 1_000_000}}, 300, 300, 0, 0},
		{"udp over IPv6 stamped", stream{Case: Case{Protocol: udp, IPv6: true, Size: 90, Flows: 10}, opening: 1, stamped: true}, 100, 10, 0, 0},
		{"tcp 74 over IPv6 opened", stream{Case: Case{Protocol: tcp, IPv6: true, Size: 74, Flows: 100}, opening: 2, openWithSYN: true}, 500, 100, tcpSYN, tcpACK},
		{"tcp over IPv6 endless SYNs", stream{Case: Case{Protocol: tcp, IPv6: true, Size: 74, Flows: endless}}, 300, 300, 0, tcpSYN},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := capture(t, w.in)
			base := w.stream(c.stream.Case)
			s := &c.stream
			s.srcMAC, s.dstMAC, s.clients, s.vip, s.Rate = base.srcMAC, base.dstMAC, base.clients, base.vip, rate
			g, err := startGenerator(w.gen, s, k.cpus.generator)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Stop(); err != nil {
					t.Error(err)
				}
			}()
			want := s.frame()
			flows := make(map[int]bool)
			for i := range c.frames {
				frame := next()
				checkGenerated(t, s, want, frame)
				flow := s.flowOf(frame)
				flows[flow] = true
				if s.Flows == endless && flow != i {
					t.Fatalf("frame %d begins flow %d", i, flow)
				}
				if flags := c.flags; s.Protocol == tcp {
					if uint64(i) < s.openingFrames() {
						flags = c.opening
					}
					if got := frame[s.l4()+13]; got != flags {
						t.Fatalf("frame %d has TCP flags %#x, want %#x", i, got, flags)
					}
				}
				if uint64(i) < s.settledFrames() && flow != i%s.Flows {
					t.Fatalf("frame %d belongs to flow %d", i, flow)
				}
			}
			if len(flows) != c.flows {
				t.Errorf("%d frames are of %d flows, want %d", c.frames, len(flows), c.flows)
			}
		})
	}
}

// checkGenerated compares a frame with the stream's, apart from what may differ.
func checkGenerated(t *testing.T, s *stream, want, got []byte) {
	t.Helper()
	if err := packettest.Verify(got); err != nil {
		t.Fatalf("%v\n%x", err, got)
	}
	if len(got) != s.Size {
		t.Fatalf("a frame of %d bytes, want %d", len(got), s.Size)
	}
	if src, _ := addressesOf(got[ethernetLen:]); !clients4.Contains(src) && !clients6.Contains(src) {
		t.Fatalf("the source %s is no client", src)
	}
	if flow := s.flowOf(got); s.Flows != endless && flow >= s.Flows {
		t.Fatalf("flow %d of %d", flow, s.Flows)
	}
	fixed := bytes.Clone(got)
	for _, span := range varying(s) {
		clear(fixed[span[0]:span[1]])
	}
	if !bytes.Equal(fixed, want) {
		t.Fatalf("frame\n%x\nwant\n%x", fixed, want)
	}
}

// varying are the bytes that differ from frame to frame.
func varying(s *stream) [][2]int {
	client, l4 := s.clientLow(), s.l4()
	spans := [][2]int{{client, client + 2}, {l4, l4 + 2}}
	if !s.IPv6 {
		spans = append(spans, [2]int{24, 26}) // IP checksum
	}
	if s.Protocol == tcp {
		spans = append(spans, [2]int{l4 + 13, l4 + 14}, [2]int{l4 + 16, l4 + 18})
	} else {
		spans = append(spans, [2]int{l4 + 6, l4 + 8})
	}
	if s.stamped {
		spans = append(spans, [2]int{s.Size - stampLen, s.Size})
	}
	return spans
}

func TestStreamsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		stream stream
		want   string
	}{
		{stream{Case: Case{Protocol: udp, Size: 59}}, "frames of 59 bytes: there can be 60 to 1514"},
		{stream{Case: Case{Protocol: udp, IPv6: true, Size: 61}}, "frames of 61 bytes: there can be 62 to 1514"},
		{stream{Case: Case{Protocol: tcp, IPv6: true, Size: 73}}, "frames of 73 bytes: there can be 74 to 1514"},
		{stream{Case: Case{Protocol: udp, Size: 1515}}, "frames of 1515 bytes: there can be 60 to 1514"},
		{stream{Case: Case{Protocol: tcp, Size: 60}, stamped: true}, "only UDP frames of even length can carry a time"},
		{stream{Case: Case{Protocol: udp, Size: 61}, stamped: true}, "only UDP frames of even length can carry a time"},
	} {
		if err := c.stream.check(); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %q", c.stream.Case, err, c.want)
		}
	}
}

// TestPace has a slow stream keep to its rate: it never sends more than that.
func TestPace(t *testing.T) {
	k := newTestKit(t, nil)
	w := testWorld(t, k, 2)
	const rate = 1000
	s := w.stream(Case{Protocol: udp, Size: 60, Flows: 1})
	s.Rate, s.discard = rate, true
	begin := time.Now()
	g, err := startGenerator(w.gen, s, k.cpus.generator)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), captureTime)
	defer cancel()
	if err := g.WaitSent(ctx, 100); err != nil {
		t.Error(err)
	}
	n, err := g.Sent()
	if err != nil {
		t.Error(err)
	}
	if most := uint64(time.Since(begin).Seconds()*rate) + 2; n > most {
		t.Errorf("%d frames, at most %d are due", n, most)
	}
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
}
