package fib

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"fairlead/dataplane/packet"
)

func TestSmallImage(t *testing.T) {
	s := openImage(t, encode(t, small()))
	if s.Generation() != 42 || s.Settings().GUEPort != 6080 {
		t.Errorf("generation is %d, GUE port %d", s.Generation(), s.Settings().GUEPort)
	}
	vip := s.Local(ip("198.18.0.10"))
	if vip == nil || vip.ID != 3 || s.LocalByID(3) != vip {
		t.Fatalf("the VIP is %+v", vip)
	}
	for _, a := range []string{"198.18.0.11", "2001:db8::11", "0.0.0.0", "::"} {
		if l := s.Local(ip(a)); l != nil {
			t.Errorf("%s is local %+v", a, *l)
		}
	}
	for _, id := range []uint16{0, 2, 4, 6, 8, 65535} {
		if l := s.LocalByID(id); l != nil {
			t.Errorf("ID %d is local %+v", id, *l)
		}
	}
	for port, want := range map[uint16]string{80: "http", 81: "rest", 7999: "rest", 8000: "range", 8010: "range", 8011: "rest", 0: "rest", 65535: "rest"} {
		if got := s.Name(s.Service(3, 6, port).Name); got != want {
			t.Errorf("port %d belongs to %q, want %q", port, got, want)
		}
	}
	if s.Service(3, 17, 80) != nil || s.Service(1, 6, 80) != nil || s.Service(0, 6, 80) != nil || s.Service(2, 6, 8005) != nil {
		t.Error("a service is found for another protocol or address")
	}
	for _, id := range []ID{MakeID(1, 1), MakeID(2, 4), MakeID(4, 1)} {
		if v := s.ServiceByID(id); v == nil || v.ID != id {
			t.Errorf("service ID %#x leads to %+v", uint32(id), v)
		}
	}
	for _, id := range []ID{0, MakeID(0, 1), MakeID(1, 2), MakeID(3, 1), MakeID(5, 1), MakeID(1<<SlotBits-1, 1), MakeID(2, 0), 3} {
		if v := s.ServiceByID(id); v != nil {
			t.Errorf("service ID %#x leads to %+v", uint32(id), *v)
		}
	}
	for _, id := range []ID{0, 1, MakeID(0, 2), MakeID(1, 1), MakeID(4, 1)} {
		if b := s.BackendByID(id); b != nil {
			t.Errorf("backend ID %#x leads to %+v", uint32(id), *b)
		}
	}
	if b := s.BackendByID(MakeID(3, 255)); b == nil || s.Name(b.Name) != "three" || b != s.Backend(3) {
		t.Errorf("the third backend is %+v", b)
	}

	web, empty := s.Pool(0), s.Pool(2)
	if got := s.Members(web); !slices.Equal(got, []uint32{2, 0}) {
		t.Errorf("members of web are %v", got)
	}
	if got := s.Table(web); !slices.Equal(got, []uint16{0, 1, 0, 1, 1}) {
		t.Errorf("the table of web is %v", got)
	}
	const fifth = ^uint64(0) / 5 // of the hash's range falls on each slot
	for slot, want := range []uint32{2, 0, 2, 0, 0} {
		for _, hash := range []uint64{uint64(slot)*fifth + 1, uint64(slot+1) * fifth} {
			if got := s.TableSlot(web, hash); got != uint32(slot) {
				t.Errorf("hash %#x falls on slot %d, want %d", hash, got, slot)
			}
			if got := s.Pick(web, hash); got != want {
				t.Errorf("hash %#x leads to backend slot %d, want %d", hash, got, want)
			}
		}
	}
	if s.Pick(empty, 1) != NoIndex || s.TableSlot(empty, 1) != NoIndex || len(s.Table(empty)) != 0 || len(s.Members(empty)) != 0 {
		t.Error("an empty pool leads somewhere")
	}

	http := s.Service(3, 6, 80)
	for client, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.255": true, "192.0.3.0": false, "192.0.1.255": false, "203.0.113.127": true, "203.0.113.128": false,
		"0.0.0.1": false, "255.255.255.255": false, "2001:db8::1": false,
	} {
		if got := s.Allowed(http, ip(client)); got != want {
			t.Errorf("%s is let in: %v, want %v", client, got, want)
		}
	}
	if s.NextHop(NoIndex) != nil || s.NextHop(2) != nil || s.NextHop(1).MTU != 1500 || s.Interface(2) != nil || s.Name(s.Interface(1).Name) != "back" {
		t.Error("next hops or interfaces are wrong")
	}
	if s.SNAT(1).Local != 7 || len(s.SNATs()) != 2 || s.TimeoutsCount() != 1 || s.Timeouts(0).TCPSynSent != 1000 || len(s.Ranges(http)) != 2 {
		t.Error("SNATs, timeouts or ranges are wrong")
	}
	seen := 0
	s.Locals(func(*Local) bool { seen++; return true })
	if seen != 4 {
		t.Errorf("there are %d locals, want 4", seen)
	}
	s.Locals(func(*Local) bool { seen++; return false })
	if seen != 5 {
		t.Error("the walk over locals goes on after it was stopped")
	}
}

// TestLookupsAgreeWithOracle compares every lookup on random images with a
// search through the builder's lists.
func TestLookupsAgreeWithOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		n := 1 + r.IntN(40)
		b := random(r, n)
		s := openImage(t, encode(t, b))
		for range 4 * n {
			a := packet.Addr{Lo: 0xffff_c612_0000 + uint64(r.IntN(4*n))}
			if r.IntN(2) == 0 {
				a = packet.Addr{Hi: 0x20010db8_00000000, Lo: uint64(r.IntN(4 * n))}
			}
			want, got := findLocal(b, a), s.Local(a)
			if (want == nil) != (got == nil) || want != nil && *want != *got {
				t.Fatalf("%s is local %v, want %v", a, got, want)
			}
		}
		for id := range uint16(2*n + 5) {
			got := s.LocalByID(id)
			i := slices.IndexFunc(b.Locals, func(l Local) bool { return l.ID == id })
			if (i < 0) != (got == nil) || got != nil && *got != b.Locals[i] {
				t.Fatalf("ID %d is local %v", id, got)
			}
			for _, proto := range []uint8{6, 17, 1} {
				for port := range uint16(75) {
					want := findService(b, id, proto, port)
					got := ID(0)
					if v := s.Service(id, proto, port); v != nil {
						got = v.ID
					}
					if got != want {
						t.Fatalf("local %d protocol %d port %d belongs to service %#x, want %#x", id, proto, port, uint32(got), uint32(want))
					}
				}
			}
		}
		for i := range s.Pools() {
			p := s.Pool(uint32(i))
			for range 50 {
				hash := r.Uint64()
				got := s.Pick(p, hash)
				if p.TableSize == 0 {
					if got != NoIndex {
						t.Fatalf("an empty pool leads to %d", got)
					}
				} else if want := s.Members(p)[s.Table(p)[s.TableSlot(p, hash)]]; got != want {
					t.Fatalf("hash %#x leads to %d, want %d", hash, got, want)
				}
			}
		}
	}
}

func TestSortRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 500 {
		var prefixes []netip.Prefix
		var ranges []SourceRange
		for range r.IntN(12) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(4)), byte(r.IntN(256))}), r.IntN(33)).Masked()
			if r.IntN(2) == 0 {
				p = netip.PrefixFrom(packet.Addr{Hi: 0x20010db8_00000000 | uint64(r.IntN(4)), Lo: r.Uint64()}.Netip(), []int{r.IntN(129), 64, 128, 0}[r.IntN(4)]).Masked()
			}
			prefixes = append(prefixes, p)
			ranges = append(ranges, SourceRangeFrom(p))
		}
		sorted := SortRanges(ranges)
		if err := verifyRanges(sorted); err != nil {
			t.Fatalf("%v sorted are %v: %v", prefixes, sorted, err)
		}
		s := &Snapshot{sourceRanges: sorted}
		svc := &Service{RangeCount: uint32(len(sorted))}
		if len(sorted) == 0 {
			continue
		}
		for range 50 {
			client := netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(5)), byte(r.IntN(256))})
			if r.IntN(2) == 0 {
				client = packet.Addr{Hi: 0x20010db8_00000000 | uint64(r.IntN(5)), Lo: r.Uint64()}.Netip()
			}
			want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
				// ::/0 covers the mapped form that IPv4 addresses are held in.
				return p.Contains(client) || client.Is4() && p.Addr().Is6() && p.Contains(netip.AddrFrom16(client.As16())) || client.Is4() && p.Addr().Is6() && p.Bits() == 0
			})
			if got := s.Allowed(svc, packet.AddrFrom(client)); got != want {
				t.Fatalf("%v let %s in: %v, want %v", prefixes, client, got, want)
			}
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	s := openImage(t, encode(t, small()))
	client, vip := ip("203.0.113.9"), ip("198.18.0.10")
	var sink uint64
	if n := testing.AllocsPerRun(1000, func() {
		l := s.Local(vip)
		svc := s.Service(l.ID, 6, 80)
		svc = s.ServiceByID(svc.ID)
		if s.Allowed(svc, client) {
			sink++
		}
		p := s.Pool(svc.Pool)
		hash := s.FlowHash(client, vip, 1234, 80, 6) + s.AffinityHash(client, vip)
		b := s.Backend(s.Pick(p, hash))
		b = s.BackendByID(b.ID)
		if n := s.NextHop(b.NextHop); n != nil {
			sink += uint64(n.MTU)
		}
		sink += uint64(len(s.Name(svc.Name))) + uint64(s.LocalByID(l.ID).ID) + s.Generation() + uint64(s.TableSlot(p, hash))
		sink += uint64(s.Service(3, 6, 8005).ID) + uint64(s.Service(3, 6, 9).ID)
	}); n != 0 {
		t.Errorf("lookups allocate %v times", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	build := random(r, 4000)
	s := openImage(b, encode(b, build))
	var sink int
	b.Run("Local", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			sink += int(s.Local(build.Locals[i%len(build.Locals)].Addr).ID)
		}
	})
	b.Run("LocalMiss", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if s.Local(packet.Addr{Hi: i, Lo: 5}) != nil {
				sink++
			}
		}
	})
	var exact, ranges []PortMatch
	for _, m := range build.Matches {
		switch {
		case m.Default == 1:
		case m.PortFirst == m.PortLast:
			exact = append(exact, m)
		default:
			ranges = append(ranges, m)
		}
	}
	for _, c := range []struct {
		name  string
		among []PortMatch
	}{{"ServiceExact/10", exact[:10]}, {"ServiceExact/all", exact}, {"ServiceRange/10", ranges[:10]}, {"ServiceRange/all", ranges}} {
		b.Run(c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				m := &c.among[i%len(c.among)]
				if s.Service(m.Local, m.Proto, m.PortLast) != nil {
					sink++
				}
			}
		})
	}
	client, vip := ip("203.0.113.9"), ip("198.18.0.10")
	b.Run("FlowHash", func(b *testing.B) {
		h := uint64(0)
		for b.Loop() {
			h += s.FlowHash(client, vip, uint16(h), 80, 6)
		}
		sink += int(h)
	})
	pool := s.Pool(0)
	for i := range s.Pools() {
		if s.Pool(uint32(i)).TableSize > 0 {
			pool = s.Pool(uint32(i))
		}
	}
	b.Run("Pick", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			sink += int(s.Pick(pool, i*0x9e3779b97f4a7c15))
		}
	})
}
