package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
)

type fibLocal = fib.Local

// randomState is a valid state of a few VIPs with services that touch and
// interleave, and of pools that overlap.
func randomState(r *rand.Rand) (*model.State, *model.Observations) {
	four := func(net, n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(net), byte(n + 1)}) }
	six := func(net, n int) netip.Addr {
		a := ip("2001:db8::").As16()
		a[13], a[15] = byte(net), byte(n+1)
		return netip.AddrFrom16(a)
	}
	s := &model.State{
		HashSeed: [2]uint64{r.Uint64(), r.Uint64()},
		SNATs:    []model.SNAT{{Address: four(1, r.IntN(3))}, {Address: six(1, r.IntN(3))}},
		Tunnel:   model.Tunnel{Source4: four(2, 0), Source6: six(2, 0)},
	}
	obs := &model.Observations{
		Interfaces: []model.Interface{{Name: "a", MTU: 1500, MAC: mac(1)}, {Name: "b", MTU: 1500, MAC: mac(2)}},
		NextHops:   make(map[netip.Addr]model.NextHop),
	}
	for i := range r.IntN(6) {
		p := model.Pool{Name: fmt.Sprintf("pool-%d", i), Refused: max(0, r.IntN(8)-5)}
		for _, n := range r.Perm(8)[:r.IntN(8)] {
			address := four(3, n)
			if i%2 == 1 {
				address = six(3, n)
			}
			b := model.Backend{Address: address, Weight: r.IntN(4)}
			switch r.IntN(6) {
			case 0:
				b.Serving.Down = true
			case 1:
				b.Serving.Withheld = r.IntN(3) * 500
			}
			if r.IntN(4) > 0 {
				obs.NextHops[address] = model.NextHop{Interface: []string{"a", "b"}[r.IntN(2)], MAC: mac(byte(r.IntN(3))), Resolved: r.IntN(3) > 0}
			}
			p.Backends = append(p.Backends, b)
		}
		s.Pools = append(s.Pools, p)
	}
	if len(s.Pools) == 0 {
		return s, obs
	}
	methods := []model.Method{model.NAT, model.IPIP, model.GUE, model.L2}
	for n := range r.IntN(30) {
		svc := model.Service{
			Name: fmt.Sprintf("service-%d", n), Protocol: []model.Protocol{model.TCP, model.UDP, model.SCTP}[r.IntN(3)],
			Method: methods[r.IntN(4)],
		}
		pool := r.IntN(len(s.Pools))
		svc.Pool = s.Pools[pool].Name
		svc.VIP = four(0, r.IntN(2))
		if pool%2 == 1 {
			svc.VIP = six(0, r.IntN(2))
		}
		switch r.IntN(4) {
		case 0:
			svc.Ports = model.AllPorts
		case 1:
			svc.Ports.First = uint16(1 + r.IntN(30))
			svc.Ports.Last = svc.Ports.First + uint16(r.IntN(6))
		default:
			svc.Ports.First = uint16(1 + r.IntN(30))
			svc.Ports.Last = svc.Ports.First
		}
		for range r.IntN(3) {
			bits := r.IntN(12)
			svc.SourceRanges = append(svc.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, byte(r.IntN(4)), 113, 0}), 8+bits).Masked())
			if pool%2 == 1 {
				svc.SourceRanges = nil
			}
		}
		conflict := slices.ContainsFunc(s.Services, func(o model.Service) bool {
			return o.VIP == svc.VIP && o.Protocol == svc.Protocol && (o.Ports == model.AllPorts) == (svc.Ports == model.AllPorts) &&
				o.Ports.First <= svc.Ports.Last && svc.Ports.First <= o.Ports.Last
		})
		if !conflict {
			s.Services = append(s.Services, svc)
		}
	}
	return s, obs
}

// slowService says by the model alone which service a packet belongs to.
func slowService(s *model.State, vip netip.Addr, proto model.Protocol, port uint16) string {
	rest := ""
	for _, svc := range s.Services {
		if svc.VIP != vip || svc.Protocol != proto {
			continue
		}
		switch {
		case svc.Ports == model.AllPorts:
			rest = svc.Name
		case svc.Ports.First <= port && port <= svc.Ports.Last:
			return svc.Name
		}
	}
	return rest
}

func TestLookupsAgreeWithTheModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 14))
	protos := map[model.Protocol]uint8{model.TCP: 6, model.UDP: 17, model.SCTP: 132}
	for range 300 {
		state, obs := randomState(r)
		_, s := compile(t, state, obs, nil, Options{})

		vips := make(map[netip.Addr]bool)
		for _, svc := range state.Services {
			vips[svc.VIP] = true
		}
		for last := range 4 {
			for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, byte(last)}), ip(fmt.Sprintf("2001:db8::%d", last))} {
				l := s.Local(packet.AddrFrom(a))
				if vips[a] != (l != nil && l.Kind == fib.LocalVIP) {
					t.Fatalf("%s is local %v, VIP in the model: %v", a, l, vips[a])
				}
				if l == nil {
					continue
				}
				for name, proto := range protos {
					for _, port := range []uint16{0, 65535, 100} {
						checkService(t, state, s, a, l, name, proto, port)
					}
					for port := range uint16(40) {
						checkService(t, state, s, a, l, name, proto, port)
					}
				}
			}
		}

		for i := range state.Services {
			svc := &state.Services[i]
			record := s.Service(s.Local(packet.AddrFrom(svc.VIP)).ID, protos[svc.Protocol], svc.Ports.First)
			for range 20 {
				client := netip.AddrFrom4([4]byte{203, byte(r.IntN(5)), byte(r.IntN(256)), byte(r.IntN(256))})
				want := len(svc.SourceRanges) == 0 || slices.ContainsFunc(svc.SourceRanges, func(p netip.Prefix) bool { return p.Contains(client) })
				if svc.Ports != model.AllPorts && s.Allowed(record, packet.AddrFrom(client)) != want {
					t.Fatalf("service %+v lets %s in: %v", svc, client, !want)
				}
			}
			checkPicks(t, r, state, obs, s, svc, record)
		}
	}
}

func checkService(t *testing.T, state *model.State, s *fib.Snapshot, vip netip.Addr, l *fib.Local, name model.Protocol, proto uint8, port uint16) {
	t.Helper()
	got := ""
	if svc := s.Service(l.ID, proto, port); svc != nil {
		got = s.Name(svc.Name)
	}
	if want := slowService(state, vip, name, port); got != want {
		t.Fatalf("%s %s port %d belongs to %q, by the model to %q", vip, name, port, got, want)
	}
}

// checkPicks: only backends of the service's pool that are up and have weight
// are ever chosen, and there is a choice exactly when the pool has one, unless it
// refuses a share.
func checkPicks(t *testing.T, r *rand.Rand, state *model.State, obs *model.Observations, s *fib.Snapshot, svc *model.Service, record *fib.Service) {
	t.Helper()
	p := s.Pool(record.Pool)
	eligible, refuses := make(map[netip.AddrPort]bool), false
	for _, pool := range state.Pools {
		if pool.Name != s.Name(p.Name) {
			continue
		}
		refuses = pool.Refused > 0
		for _, b := range pool.Backends {
			if b.Weight > 0 && !b.Serving.Down && b.Serving.Withheld < 1000 {
				eligible[b.Endpoint()] = true
			}
		}
	}
	for range 20 {
		slot := s.Pick(p, r.Uint64())
		if slot == fib.NoIndex {
			if len(eligible) > 0 && !refuses {
				t.Fatalf("pool %s has %d backends to choose and none is chosen", svc.Pool, len(eligible))
			}
			continue
		}
		b := s.Backend(slot)
		if end := netip.AddrPortFrom(b.Addr.Netip(), b.Port); !eligible[end] {
			t.Fatalf("pool %s chooses %s, which is down, has no weight or is another pool's", svc.Pool, end)
		}
		if s.BackendByID(b.ID) != b {
			t.Fatalf("backend %s is not found by its ID", b.Addr)
		}
	}
}

// FuzzCompile: whatever state validation accepts compiles to an image that
// opens, with the identities of any state before it. The state is random by
// the seed and then bent in places that the other bytes choose.
func FuzzCompile(f *testing.F) {
	f.Add(uint64(1), uint64(2), []byte{})
	f.Add(uint64(3), uint64(3), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add(uint64(9), uint64(10), []byte{3, 200, 5, 0, 2, 2})
	f.Fuzz(func(t *testing.T, first, second uint64, bends []byte) {
		before, obs := randomState(rand.New(rand.NewPCG(first, 0)))
		result, err := Compile(before, obs, nil, Options{})
		if err != nil {
			t.Fatalf("a valid state does not compile: %v", err)
		}
		state, obs := randomState(rand.New(rand.NewPCG(second, 0)))
		bend(state, bends)
		valid := len(model.Validate(state)) == 0
		result, err = Compile(state, obs, result.IDs, Options{Draining: drainAll(before)})
		if (err == nil) != valid {
			t.Fatalf("the state is valid: %v; compiling it says %v", valid, err)
		}
		if err != nil {
			return
		}
		image, err := result.Builder.Encode(1)
		if err != nil {
			t.Fatalf("a compiled state does not encode: %v", err)
		}
		if _, err := fib.Open(image); err != nil {
			t.Fatal(err)
		}
	})
}

// bend changes fields of a state, two bytes to a change.
func bend(s *model.State, bends []byte) {
	for ; len(bends) >= 2; bends = bends[2:] {
		what, v := bends[0], bends[1]
		switch {
		case what < 100 && len(s.Services) > 0:
			svc := &s.Services[int(what)%len(s.Services)]
			switch v % 8 {
			case 0:
				svc.Ports = model.PortRange{First: uint16(v), Last: uint16(what)}
			case 1:
				svc.Ports = model.AllPorts
			case 2:
				svc.Method = []model.Method{"", model.NAT, model.IPIP, model.L2}[v/8%4]
			case 3:
				svc.Pool = "pool-" + string('0'+v/8%8)
			case 4:
				svc.VIP = netip.AddrFrom4([4]byte{198, 18, v / 8 % 4, 1})
			case 5:
				svc.Timeouts.UDP = -1
			case 6:
				svc.Affinity.Enabled = true
			case 7:
				svc.SourceRanges = []netip.Prefix{netip.PrefixFrom(svc.VIP, int(v/8))}
			}
		case what < 200 && len(s.Pools) > 0:
			p := &s.Pools[int(what)%len(s.Pools)]
			p.Backends = append(p.Backends, model.Backend{Address: netip.AddrFrom4([4]byte{198, 18, v % 4, v}), Port: uint16(v % 3), Weight: int(v) * 1000})
		default:
			s.SNATs = append(s.SNATs, model.SNAT{Address: netip.AddrFrom4([4]byte{198, 18, v % 4, 200}), Ports: model.PortRange{First: uint16(v), Last: 200}})
		}
	}
}

// drainAll has every backend of a state drain.
func drainAll(s *model.State) (out []DrainingBackend) {
	for _, p := range s.Pools {
		for _, b := range p.Backends {
			out = append(out, DrainingBackend{Pool: p.Name, Backend: b})
		}
	}
	return out
}
