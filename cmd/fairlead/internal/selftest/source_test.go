package selftest

import (
	"net/netip"
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet/packettest"
)

// TestSource opens all flows once, in order, and then goes on with those at
// random. Every packet has right checksums.
func TestSource(t *testing.T) {
	const first, flows = 65530, 12 // across a change of ports
	for name, frame := range map[string][]byte{
		"IPv4": udpFrame(client4, service4, ttl),
		"IPv6": udpFrame(client6, service6, ttl),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSource(frame, first, flows)
			if err != nil {
				t.Fatal(err)
			}
			s.opening = true
			opened := make(map[string]bool)
			frames := make([]nic.Frame, 5)
			for n := s.Receive(frames); n > 0; n = s.Receive(frames) {
				for _, f := range frames[:n] {
					opened[flowOf(t, s, f)] = true
					s.pool.Put(f.Addr)
				}
			}
			if len(opened) != flows {
				t.Errorf("%d flows were opened, want %d", len(opened), flows)
			}
			s.opening = false
			seen := make(map[string]bool)
			for range 100 {
				for _, f := range frames[:s.Receive(frames)] {
					flow := flowOf(t, s, f)
					if !opened[flow] {
						t.Fatalf("flow %s was never opened", flow)
					}
					seen[flow] = true
					s.pool.Put(f.Addr)
				}
			}
			if len(seen) != flows {
				t.Errorf("%d flows go on, want %d", len(seen), flows)
			}
			if s.made != flows+500 {
				t.Errorf("%d packets were made", s.made)
			}
		})
	}
}

// flowOf names the flow of a frame, which must be a right one.
func flowOf(t *testing.T, s *source, f nic.Frame) string {
	t.Helper()
	b := s.pool.Bytes(f)
	if err := packettest.Verify(b); err != nil {
		t.Fatalf("%v\n%x", err, b)
	}
	l4, src := offIP+ipv4Len, netip.AddrFrom4([4]byte(b[26:30]))
	if s.v6 {
		l4, src = offIP+ipv6Len, netip.AddrFrom16([16]byte(b[22:38]))
	}
	return netip.AddrPortFrom(src, uint16(b[l4])<<8|uint16(b[l4+1])).String()
}

// TestSourceDoesNotAllocate: what it makes up is not measured, and must not
// disturb what is.
func TestSourceDoesNotAllocate(t *testing.T) {
	s, err := newSource(udpFrame(client6, service6, ttl), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	frames, addrs := make([]nic.Frame, nic.BatchSize), make([]uint64, nic.BatchSize)
	if n := testing.AllocsPerRun(100, func() {
		n := s.Receive(frames)
		s.pool.Sent(frames[:s.Transmit(frames[:n])])
		s.pool.Completed(addrs[:s.Complete(addrs)])
	}); n != 0 {
		t.Errorf("%g allocations a batch", n)
	}
}
