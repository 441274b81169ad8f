package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/dataplane/packet/packettest"
)

// guePort is where Fairlead sends GUE by default.
const guePort = 6080

// TestForwarders sends the generator's traffic through every contestant and
// looks at each frame that comes out.
func TestForwarders(t *testing.T) {
	k := newTestKit(t, contestants())
	for i, c := range []Case{
		{Arms: 2, Protocol: udp, Size: 90, Flows: 50},
		{Arms: 1, Protocol: tcp, IPv6: true, Size: 90, Flows: 50},
		{Arms: 2, Protocol: tcp, Size: 90, Flows: 50},
		{Arms: 2, Protocol: udp, IPv6: true, Size: 90, Flows: 50},
		{Arms: 1, Protocol: udp, Size: 90, Flows: 50},
	} {
		for _, who := range k.contestants {
			if who.memo && i >= 2 {
				continue // every pair of methods and families has end-to-end tests of its own
			}
			t.Run(fmt.Sprintf("%s %v", who.name, c), func(t *testing.T) {
				if who.refuse != nil {
					if why := who.refuse(k, c); why != "" {
						mustBeReported(t, k, who, c, why)
						return
					}
				}
				testForwarder(t, k, testWorld(t, k, c.Arms), who, c)
			})
		}
	}
}

// mustBeReported is for a contestant that this machine cannot run: the results say so.
func mustBeReported(t *testing.T, k *kit, who contestant, c Case, why string) {
	t.Helper()
	for _, r := range newCollected(c, k).result().Results {
		if r.Name == who.name && r.NotRun == why {
			t.Logf("not run: %s", why)
			return
		}
	}
	t.Errorf("%s is not run and the results do not say why", who.name)
}

func testForwarder(t *testing.T, k *kit, w *world, who contestant, c Case) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	next := capture(t, w.far)
	if who.sink == sinkXDP {
		// Redirected frames arrive only where there is a program.
		attached, err := attachXDP(w.far, objectProgPass, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer closed(t, attached)
	}
	f, err := who.start(ctx, k, w, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	}()
	s := k.streamFor(w, c, who)
	// Slow enough for the smallest of rings.
	s.Rate, s.opening = 5000, 0
	if s.openWithSYN && c.Protocol == tcp {
		s.opening = openingTCP
	}
	g, err := startGenerator(w.gen, s, k.cpus.generator)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for range 200 {
		frame := next()
		if err := checkForwarded(w, s, who.name, frame); err != nil {
			t.Fatalf("%v\n%x", err, frame)
		}
	}
}

// checkForwarded tells whether a frame is what a contestant makes of the stream's.
func checkForwarded(w *world, s *stream, name string, frame []byte) error {
	if err := packettest.Verify(frame, guePort); err != nil {
		return err
	}
	switch strings.TrimSuffix(name, withMemo) {
	case "fairlead-nat", "nftables-dnat":
		return checkNAT(w, s, name, frame)
	case "fairlead-ipip", "fairlead-gue", "xdp-encap":
		return checkTunnel(w, s, frame)
	case "fairlead-l2":
		frame = bytes.Clone(frame)
		if !bytes.Equal(frame[:6], w.out.Peer.MAC) || !bytes.Equal(frame[6:12], w.out.MAC) {
			return fmt.Errorf("Ethernet addresses %x", frame[:12])
		}
		return samePacket(s, frame[ethernetLen:])
	}
	return sameFrame(s, frame)
}

// sameFrame: byte for byte what the generator sent for that flow.
func sameFrame(s *stream, frame []byte) error {
	if len(frame) != s.Size {
		return fmt.Errorf("%d bytes, want %d", len(frame), s.Size)
	}
	fixed := bytes.Clone(frame)
	for _, span := range varying(s) {
		clear(fixed[span[0]:span[1]])
	}
	if want := s.frame(); !bytes.Equal(fixed, want) {
		return fmt.Errorf("the frame differs from\n%x", want)
	}
	return nil
}

// samePacket: the packet of one of the stream's frames, a hop further at most.
func samePacket(s *stream, ip []byte) error {
	want := s.frame()
	frame := append(bytes.Clone(want[:ethernetLen]), ip...)
	ttl := &frame[ethernetLen+8]
	if s.IPv6 {
		ttl = &frame[ethernetLen+7]
	}
	if *ttl != 64 && *ttl != 63 {
		return fmt.Errorf("TTL %d", *ttl)
	}
	*ttl = 64
	return sameFrame(s, frame)
}

func checkNAT(w *world, s *stream, name string, frame []byte) error {
	ip := frame[ethernetLen:]
	a := w.of(s.Case)
	src, dst := addressesOf(ip)
	if !slices.Contains(a.backends, dst) {
		return fmt.Errorf("sent to %s, which is no backend", dst)
	}
	if name == nftablesDNAT.name && !a.clients.Contains(src) || name != nftablesDNAT.name && !slices.Contains(a.snat, src) {
		return fmt.Errorf("sent from %s", src)
	}
	if port := binary.BigEndian.Uint16(frame[s.l4()+2:]); port != servicePort {
		return fmt.Errorf("sent to port %d", port)
	}
	payload := s.l4() + s.l4Header()
	if want := s.frame(); len(frame) != len(want) || !bytes.Equal(frame[payload:], want[payload:]) {
		return fmt.Errorf("the payload differs")
	}
	return nil
}

func checkTunnel(w *world, s *stream, frame []byte) error {
	a := w.of(s.Case)
	src, dst := addressesOf(frame[ethernetLen:])
	if src != a.gateway || !slices.Contains(a.backends, dst) {
		return fmt.Errorf("a tunnel from %s to %s", src, dst)
	}
	inner, err := packettest.Decapsulate(frame, guePort)
	if err != nil {
		return err
	}
	return samePacket(s, inner)
}

// addressesOf are source and destination of an IP packet.
func addressesOf(ip []byte) (src, dst netip.Addr) {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
}
