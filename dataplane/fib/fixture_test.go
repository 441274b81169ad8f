package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane/packet"
)

func ip(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// small is a builder of an image with at least one of everything:
//
//	VIP 198.18.0.10: tcp 80 (slot 1), tcp 8000-8010 (slot 2), every other tcp port (slot 4)
//	pool 0: backends in slots 0 and 2; pool 1: backend in slot 3 and the same table as pool 0 cut to one; pool 2: empty
func small() *Builder {
	b := &Builder{
		Settings: Settings{HashSeed: [2]uint64{1, 2}, Tunnel4: ip("198.18.0.250"), GUEPort: 6080, OuterTTL: 64},
		Locals: []Local{
			{Addr: ip("198.18.0.10"), ID: 3, Kind: LocalVIP, Flags: LocalAnswerARP, SNAT: NoIndex},
			{Addr: ip("2001:db8::10"), ID: 1, Kind: LocalVIP, SNAT: NoIndex},
			{Addr: ip("198.18.0.200"), ID: 7, Kind: LocalSNAT, SNAT: 1},
			{Addr: ip("198.18.0.250"), ID: 5, Kind: LocalTunnel, SNAT: NoIndex},
		},
		Matches: []PortMatch{
			{Local: 3, Proto: 6, PortFirst: 8000, PortLast: 8010, Service: 2},
			{Local: 3, Proto: 6, Default: 1, PortLast: 65535, Service: 4},
			{Local: 3, Proto: 6, PortFirst: 80, PortLast: 80, Service: 1},
		},
		Members:    []uint32{2, 0, 3},
		Tables:     []uint16{0, 1, 0, 1, 1, 0, 0},
		NextHops:   []NextHop{{Port: 0}, {Port: 1, Resolved: 1, MTU: 1500}},
		SNATs:      []SNAT{{}, {Addr: ip("198.18.0.200"), Local: 7, PortFirst: 1024, PortLast: 65535}},
		Timeouts:   []Timeouts{{TCPSynSent: 1000}},
		Interfaces: nil,
	}
	b.Interfaces = []Interface{
		{MTU: 1500, IfIndex: 2, Gateway: 1, Name: b.Name("front")},
		{MTU: 9000, IfIndex: 3, Gateway: NoIndex, Name: b.Name("back")},
	}
	b.Pools = []Pool{
		{Members: 0, MemberCount: 2, Table: 0, TableSize: 5, Checksum: 5, Name: b.Name("web")},
		{Members: 2, MemberCount: 1, Table: 5, TableSize: 2, Name: b.Name("dns")},
		{Name: b.Name("empty")},
	}
	b.Backends = []Backend{
		{Addr: ip("198.18.10.1"), ID: MakeID(0, 1), NextHop: 0, Pool: 0, Weight: 1, Port: 8080, Name: b.Name("one")},
		{},
		{Addr: ip("198.18.10.2"), ID: MakeID(2, 9), NextHop: 1, Pool: 0, Weight: 1, Port: 8080, Name: b.Name("two")},
		{Addr: ip("198.18.10.3"), ID: MakeID(3, 255), NextHop: NoIndex, Pool: 1, Weight: 1, Name: b.Name("three")},
	}
	b.SourceRanges = []SourceRange{
		SourceRangeFrom(netip.MustParsePrefix("192.0.2.0/24")),
		SourceRangeFrom(netip.MustParsePrefix("203.0.113.0/25")),
	}
	b.Services = []Service{
		{},
		{ID: MakeID(1, 1), Pool: 0, Local: 3, PortFirst: 80, PortLast: 80, Proto: 6, Method: MethodNAT, ClampMSS: 1, Ranges: 0, RangeCount: 2, Name: b.Name("http")},
		{ID: MakeID(2, 4), Pool: 1, Local: 3, PortFirst: 8000, PortLast: 8010, Proto: 6, Method: MethodIPIP, Name: b.Name("range")},
		{},
		{ID: MakeID(4, 1), Pool: 2, Local: 3, PortFirst: 0, PortLast: 65535, Proto: 6, Method: MethodGUE, Gone: GoneDrop, Name: b.Name("rest")},
	}
	return b
}

func encode(t testing.TB, b *Builder) []byte {
	t.Helper()
	image, err := b.Encode(42)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func openImage(t testing.TB, image []byte) *Snapshot {
	t.Helper()
	s, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// random is a builder of a random valid image: n addresses, each with claims
// that do not overlap.
func random(r *rand.Rand, n int) *Builder {
	b := &Builder{
		Settings:   Settings{HashSeed: [2]uint64{r.Uint64(), r.Uint64()}},
		Interfaces: []Interface{{Gateway: NoIndex}},
		NextHops:   []NextHop{{}},
		Timeouts:   []Timeouts{{}},
	}
	pools := 1 + r.IntN(4)
	for p := range pools {
		pool := Pool{Members: uint32(len(b.Members)), MemberCount: uint32(r.IntN(5)), Name: b.Name(fmt.Sprint("pool", p))}
		for range pool.MemberCount {
			for range r.IntN(2) {
				b.Backends = append(b.Backends, Backend{})
			}
			slot := uint32(len(b.Backends))
			b.Backends = append(b.Backends, Backend{
				Addr: packet.Addr{Hi: r.Uint64(), Lo: r.Uint64()}, ID: MakeID(slot, uint8(1+r.IntN(255))), Pool: uint32(p), NextHop: 0,
			})
			b.Members = append(b.Members, slot)
		}
		if pool.MemberCount > 0 {
			pool.Table, pool.TableSize = uint32(len(b.Tables)), uint32(1+r.IntN(20))
			for range pool.TableSize {
				b.Tables = append(b.Tables, uint16(r.IntN(int(pool.MemberCount))))
			}
		}
		b.Pools = append(b.Pools, pool)
	}
	ids := r.Perm(2*n + 1)
	for i := range n {
		a := packet.Addr{Lo: 0xffff_c612_0000 + uint64(r.IntN(4*n))}
		if r.IntN(2) == 0 {
			a = packet.Addr{Hi: 0x20010db8_00000000, Lo: uint64(r.IntN(4 * n))}
		}
		if findLocal(b, a) != nil {
			continue
		}
		id := uint16(ids[i] + 1)
		b.Locals = append(b.Locals, Local{Addr: a, ID: id, Kind: LocalVIP, SNAT: NoIndex})
		for _, proto := range []uint8{6, 17} {
			if r.IntN(2) == 0 {
				claim(r, b, id, proto, 0, 65535)
			}
			for port := 1; port < 60; {
				first := port + r.IntN(10)
				last := first
				if r.IntN(2) == 0 {
					last += r.IntN(5)
				}
				claim(r, b, id, proto, uint16(first), uint16(last))
				port = last + 1
			}
		}
	}
	r.Shuffle(len(b.Matches), func(i, j int) { b.Matches[i], b.Matches[j] = b.Matches[j], b.Matches[i] })
	return b
}

func claim(r *rand.Rand, b *Builder, local uint16, proto uint8, first, last uint16) {
	if r.IntN(4) == 0 {
		b.Services = append(b.Services, Service{})
	}
	slot := uint32(len(b.Services))
	m := PortMatch{Local: local, Proto: proto, PortFirst: first, PortLast: last, Service: slot}
	if first == 0 {
		m.Default = 1
	}
	b.Matches = append(b.Matches, m)
	b.Services = append(b.Services, Service{
		ID: MakeID(slot, 1), Pool: uint32(r.IntN(len(b.Pools))), Local: local, Proto: proto, PortFirst: first, PortLast: last, Method: MethodNAT,
	})
}

// findLocal and findService are the oracles of the lookups.
func findLocal(b *Builder, a packet.Addr) *Local {
	for i := range b.Locals {
		if b.Locals[i].Addr == a {
			return &b.Locals[i]
		}
	}
	return nil
}

func findService(b *Builder, local uint16, proto uint8, port uint16) ID {
	rest := ID(0)
	for _, m := range b.Matches {
		if m.Local != local || m.Proto != proto {
			continue
		}
		if m.Default == 1 {
			rest = b.Services[m.Service].ID
		} else if m.PortFirst <= port && port <= m.PortLast {
			return b.Services[m.Service].ID
		}
	}
	return rest
}
