package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
	"fairlead/dataplane/packet"
)

var ip = netip.MustParseAddr

func mac(last byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, last} }

// lab is a state of every method with its observations.
func lab() (*model.State, *model.Observations) {
	state := &model.State{
		VIPs: []model.VIP{
			{Address: ip("198.18.0.10"), AnswerARP: true, AnswerPing: true},
			{Address: ip("198.18.0.99"), FailAction: model.FailPass},
		},
		Services: []model.Service{
			{Name: "web", VIP: ip("198.18.0.10"), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: "web", Method: model.NAT,
				SourceRanges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.128/25"), netip.MustParsePrefix("192.0.2.0/24")}},
			{Name: "dns", VIP: ip("198.18.0.10"), Protocol: model.UDP, Ports: model.PortRange{First: 53, Last: 53}, Pool: "dns", Method: model.IPIP,
				Affinity: model.Affinity{Enabled: true, Timeout: time.Minute}, Gone: model.GoneRehash},
			{Name: "media", VIP: ip("198.18.0.10"), Protocol: model.TCP, Ports: model.PortRange{First: 8000, Last: 8010}, Pool: "plain", Method: model.L2, Gone: model.GoneDrop},
			{Name: "rest", VIP: ip("198.18.0.10"), Protocol: model.TCP, Ports: model.AllPorts, Pool: "plain", Method: model.NAT,
				Timeouts: model.Timeouts{TCPEstablished: time.Hour}, DisableMSS: true},
			{Name: "six", VIP: ip("2001:db8::10"), Protocol: model.SCTP, Ports: model.PortRange{First: 99, Last: 99}, Pool: "dns", Method: model.GUE},
		},
		Pools: []model.Pool{
			{Name: "web", Backends: []model.Backend{
				{Address: ip("198.18.10.2"), Port: 8080, Weight: 1},
				{Address: ip("198.18.10.1"), Port: 8080, Weight: 1, Name: "first"},
				{Address: ip("198.18.10.3"), Port: 8080, Weight: 0},
			}},
			{Name: "dns", Backends: []model.Backend{{Address: ip("198.18.10.1"), Weight: 1}, {Address: ip("2001:db8::a:1"), Weight: 2, MTU: 1400}}},
			{Name: "plain", Backends: []model.Backend{{Address: ip("198.18.10.1"), Weight: 1}, {Address: ip("198.18.10.9"), Weight: 1}}},
		},
		SNATs:    []model.SNAT{{Address: ip("198.18.0.200")}, {Address: ip("198.18.0.201"), Ports: model.PortRange{First: 2000, Last: 3000}}},
		Tunnel:   model.Tunnel{Source4: ip("198.18.0.250"), Source6: ip("2001:db8::250")},
		HashSeed: [2]uint64{1, 2},
	}
	obs := &model.Observations{
		Interfaces: []model.Interface{
			{Name: "front", Index: 7, MAC: mac(0xf0), MTU: 1500, Gateway: ip("198.18.0.1")},
			{Name: "back", Index: 8, MAC: mac(0xb0), MTU: 9000},
		},
		NextHops: map[netip.Addr]model.NextHop{
			ip("198.18.0.1"):    {Interface: "front", MAC: mac(1), Resolved: true},
			ip("198.18.10.1"):   {Interface: "back", MAC: mac(0x11), Resolved: true},
			ip("198.18.10.2"):   {Interface: "back", MAC: mac(0x11), Resolved: true}, // behind the same router
			ip("198.18.10.3"):   {Interface: "back"},
			ip("2001:db8::a:1"): {Interface: "back", MAC: mac(0x16), Resolved: true},
		},
	}
	return state, obs
}

func compile(t testing.TB, state *model.State, obs *model.Observations, prev *IDs, opts Options) (*Result, *fib.Snapshot) {
	t.Helper()
	result, err := Compile(state, obs, prev, opts)
	if err != nil {
		t.Fatal(err)
	}
	image, err := result.Builder.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return result, snapshot
}

func local(t testing.TB, s *fib.Snapshot, a string) *fib.Local {
	t.Helper()
	l := s.Local(packet.AddrFrom(ip(a)))
	if l == nil {
		t.Fatalf("%s is no local", a)
	}
	return l
}

// serviceName is the name of the service that a packet belongs to, "" for none.
func serviceName(s *fib.Snapshot, vip string, proto uint8, port uint16) string {
	l := s.Local(packet.AddrFrom(ip(vip)))
	if l == nil {
		return ""
	}
	svc := s.Service(l.ID, proto, port)
	if svc == nil {
		return ""
	}
	return s.Name(svc.Name)
}

// backend finds a backend's record by pool and name.
func backend(t testing.TB, s *fib.Snapshot, pool, name string) *fib.Backend {
	t.Helper()
	for i := range s.Backends() {
		b := s.Backend(uint32(i))
		if b.ID != 0 && s.BackendName(b) == name && s.Name(s.Pool(b.Pool).Name) == pool {
			return b
		}
	}
	t.Fatalf("there is no backend %s in pool %s", name, pool)
	return nil
}

func TestServicesOfALab(t *testing.T) {
	state, obs := lab()
	_, s := compile(t, state, obs, nil, Options{})
	for _, c := range []struct {
		vip   string
		proto uint8
		port  uint16
		want  string
	}{
		{"198.18.0.10", 6, 80, "web"},
		{"198.18.0.10", 6, 79, "rest"},
		{"198.18.0.10", 6, 0, "rest"},
		{"198.18.0.10", 6, 65535, "rest"},
		{"198.18.0.10", 6, 7999, "rest"},
		{"198.18.0.10", 6, 8000, "media"},
		{"198.18.0.10", 6, 8005, "media"},
		{"198.18.0.10", 6, 8010, "media"},
		{"198.18.0.10", 6, 8011, "rest"},
		{"198.18.0.10", 17, 53, "dns"},
		{"198.18.0.10", 17, 80, ""},
		{"198.18.0.10", 132, 99, ""},
		{"2001:db8::10", 132, 99, "six"},
		{"2001:db8::10", 6, 80, ""},
		{"198.18.0.99", 6, 80, ""},
		{"198.18.0.11", 6, 80, ""},
	} {
		if got := serviceName(s, c.vip, c.proto, c.port); got != c.want {
			t.Errorf("%s protocol %d port %d belongs to %q, want %q", c.vip, c.proto, c.port, got, c.want)
		}
	}

	vip := local(t, s, "198.18.0.10").ID
	web, dns, media, rest := s.Service(vip, 6, 80), s.Service(vip, 17, 53), s.Service(vip, 6, 8000), s.Service(vip, 6, 1)
	if web.Method != fib.MethodNAT || web.ClampMSS != 1 || web.Affinity != 0 || web.Gone != fib.GoneReset || web.AllPorts() {
		t.Errorf("web is %+v", *web)
	}
	if dns.Method != fib.MethodIPIP || dns.ClampMSS != 0 || dns.Affinity != 1 || dns.AffinityMS != 60000 || dns.Gone != fib.GoneRehash {
		t.Errorf("dns is %+v", *dns)
	}
	if media.Method != fib.MethodL2 || media.Gone != fib.GoneDrop {
		t.Errorf("media is %+v", *media)
	}
	if rest.ClampMSS != 0 || !rest.AllPorts() {
		t.Errorf("rest is %+v", *rest)
	}
	if s.TimeoutsCount() != 2 || web.Timeouts != dns.Timeouts || rest.Timeouts == web.Timeouts {
		t.Errorf("there are %d sets of idle times; want 2, one for rest alone", s.TimeoutsCount())
	}
	if got, want := *s.Timeouts(rest.Timeouts), (fib.Timeouts{TCPSynSent: 120000, TCPEstablished: 3600000, TCPFinWait: 120000, TCPClose: 10000, UDP: 30000, UDPStream: 120000, SCTP: 210000, ICMP: 30000}); got != want {
		t.Errorf("idle times of rest are %+v, want %+v", got, want)
	}
	for client, want := range map[string]bool{
		"203.0.113.0": true, "203.0.113.255": true, "203.0.114.0": false, "192.0.2.1": true, "192.0.1.255": false, "1.1.1.1": false,
	} {
		if got := s.Allowed(web, packet.AddrFrom(ip(client))); got != want {
			t.Errorf("web lets %s in: %v, want %v", client, got, want)
		}
		if !s.Allowed(rest, packet.AddrFrom(ip(client))) {
			t.Errorf("rest, which has no source ranges, does not let %s in", client)
		}
	}
	if web.RangeCount != 2 {
		t.Errorf("web has %d source ranges, want 2: one lies inside another", web.RangeCount)
	}
}

func TestLocalsOfALab(t *testing.T) {
	state, obs := lab()
	_, s := compile(t, state, obs, nil, Options{})
	for _, c := range []struct {
		addr  string
		kind  fib.LocalKind
		flags uint8
		snat  uint32
	}{
		{"198.18.0.10", fib.LocalVIP, fib.LocalAnswerARP, fib.NoIndex},
		{"198.18.0.99", fib.LocalVIP, fib.LocalNoPing | fib.LocalFailPass, fib.NoIndex},
		{"2001:db8::10", fib.LocalVIP, fib.LocalAnswerARP, fib.NoIndex}, // not listed: defaults
		{"198.18.0.200", fib.LocalSNAT, fib.LocalAnswerARP, 0},
		{"198.18.0.201", fib.LocalSNAT, fib.LocalAnswerARP, 1},
		{"198.18.0.250", fib.LocalTunnel, fib.LocalAnswerARP, fib.NoIndex},
		{"2001:db8::250", fib.LocalTunnel, fib.LocalAnswerARP, fib.NoIndex},
	} {
		l := local(t, s, c.addr)
		if l.Kind != c.kind || l.Flags != c.flags || l.SNAT != c.snat {
			t.Errorf("%s is %+v, want kind %d, flags %#x, SNAT %d", c.addr, *l, c.kind, c.flags, c.snat)
		}
		if s.LocalByID(l.ID) != l || l.ID == 0 {
			t.Errorf("%s is not found by its ID %d", c.addr, l.ID)
		}
	}
	if n := s.SNAT(0); n.PortFirst != 1024 || n.PortLast != 65535 || n.Addr != packet.AddrFrom(ip("198.18.0.200")) {
		t.Errorf("SNAT entry 0 is %+v", *n)
	}
	if n := s.SNAT(1); n.PortFirst != 2000 || n.PortLast != 3000 {
		t.Errorf("SNAT entry 1 is %+v", *n)
	}
	want := fib.Settings{
		HashSeed: [2]uint64{1, 2}, Tunnel4: packet.AddrFrom(ip("198.18.0.250")), Tunnel6: packet.AddrFrom(ip("2001:db8::250")),
		GUEPort: 6080, OuterTTL: 64, FragHold: 256, FragHoldMS: 500, ReplyRate: 1000, ReplyBurst: 200, FragTrackMS: 5000,
	}
	if *s.Settings() != want {
		t.Errorf("settings are %+v, want %+v", *s.Settings(), want)
	}
}

func TestBackendsOfALab(t *testing.T) {
	state, obs := lab()
	state.Pools[0].Backends[0].Serving.Down = true
	result, s := compile(t, state, obs, nil, Options{})

	first, second, third := backend(t, s, "web", "first"), backend(t, s, "web", "198.18.10.2:8080"), backend(t, s, "web", "198.18.10.3:8080")
	if first.Flags != 0 || second.Flags != fib.BackendDown || third.Flags != 0 || third.Weight != 0 {
		t.Errorf("flags are %#x, %#x, %#x and the third weighs %d", first.Flags, second.Flags, third.Flags, third.Weight)
	}
	web := s.Pool(first.Pool)
	for slot := range web.TableSize {
		// Any hash that falls on the slot.
		hash := uint64(slot)<<32/uint64(web.TableSize)<<32 + 1<<40
		if got := s.Pick(web, hash); s.Backend(got) != first {
			t.Fatalf("slot %d of web leads to backend slot %d, want the only one that is up and has weight", slot, got)
		}
	}

	if first.NextHop != second.NextHop || first.NextHop == third.NextHop {
		t.Errorf("next hops are %d, %d, %d; want the first two to be one", first.NextHop, second.NextHop, third.NextHop)
	}
	if n, want := *s.NextHop(first.NextHop), (fib.NextHop{DstMAC: mac(0x11), SrcMAC: mac(0xb0), Port: 1, Resolved: 1, MTU: 9000}); n != want {
		t.Errorf("the next hop of first is %+v, want %+v", n, want)
	}
	if n, want := *s.NextHop(third.NextHop), (fib.NextHop{SrcMAC: mac(0xb0), Port: 1, MTU: 9000}); n != want {
		t.Errorf("the next hop of the third is %+v, want %+v", n, want)
	}
	if b := backend(t, s, "plain", "198.18.10.9"); b.NextHop != fib.NoIndex {
		t.Errorf("a backend without a route has next hop %d", b.NextHop)
	}
	if b := backend(t, s, "dns", "2001:db8::a:1"); b.MTU != 1400 || b.Weight != 2 || b.Port != 0 {
		t.Errorf("the IPv6 backend of dns is %+v", *b)
	}

	front, back := s.Interface(0), s.Interface(1)
	if s.Name(front.Name) != "front" || front.MTU != 1500 || front.IfIndex != 7 || front.MAC != mac(0xf0) {
		t.Errorf("interface 0 is %+v", *front)
	}
	if n := s.NextHop(front.Gateway); n == nil || n.DstMAC != mac(1) || n.Port != 0 {
		t.Errorf("the gateway of interface 0 is %+v", n)
	}
	if back.Gateway != fib.NoIndex || s.Interface(2) != nil {
		t.Errorf("interface 1 has gateway %d, interface 2 is %+v", back.Gateway, s.Interface(2))
	}
	want := []string{
		`pool "web": backend 198.18.10.3:8080 has no known MAC address`,
		`pool "plain": backend 198.18.10.9 has no route`,
	}
	if !slices.Equal(result.Warnings, want) {
		t.Errorf("warnings are %q, want %q", result.Warnings, want)
	}
}

func TestWarnings(t *testing.T) {
	state, obs := lab()
	state.Pools[0].Backends = nil
	state.Pools[2].Backends[0].Serving.Down = true
	state.Pools[2].Backends[1].Serving.Withheld = 1000
	obs.Interfaces = obs.Interfaces[:1]
	obs.NextHops[ip("198.18.0.1")] = model.NextHop{Interface: "front"}
	result, s := compile(t, state, obs, nil, Options{})
	want := []string{
		`interface front: gateway 198.18.0.1 has no known MAC address`,
		`pool "dns": backend 198.18.10.1 is behind back, which is none of the node's interfaces (and 1 more cannot be reached)`,
		`pool "plain": backend 198.18.10.1 is behind back, which is none of the node's interfaces (and 1 more cannot be reached)`,
		`service "web": no backend of pool "web" may be chosen`,
		`service "media": no backend of pool "plain" may be chosen`,
		`service "rest": no backend of pool "plain" may be chosen`,
	}
	if !slices.Equal(result.Warnings, want) {
		t.Errorf("warnings are:\n%s\nwant:\n%s", strings.Join(result.Warnings, "\n"), strings.Join(want, "\n"))
	}
	svc := s.Service(local(t, s, "198.18.0.10").ID, 6, 80)
	if p := s.Pool(svc.Pool); s.Pick(p, 12345) != fib.NoIndex || s.TableSlot(p, 12345) != fib.NoIndex || p.Checksum != 0 {
		t.Errorf("an empty pool gives backend %d", s.Pick(p, 12345))
	}
}

func TestEqualPoolsShareATable(t *testing.T) {
	state, obs := lab()
	// Another name, another order, other names of backends, another use.
	state.Pools = append(state.Pools, model.Pool{Name: "copy", Backends: []model.Backend{
		{Address: ip("198.18.10.1"), Port: 8080, Weight: 3},
		{Address: ip("198.18.10.2"), Port: 8080, Weight: 3, Name: "second"},
		{Address: ip("198.18.10.3"), Port: 8080, Weight: 0},
	}})
	_, s := compile(t, state, obs, nil, Options{})
	var web, copied, plain *fib.Pool
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		switch s.Name(p.Name) {
		case "web":
			web = p
		case "copy":
			copied = p
		case "plain":
			plain = p
		}
	}
	if slices.Equal(s.Table(web), s.Table(plain)) {
		t.Error("pools of different backends have equal tables")
	}
	if !slices.Equal(s.Table(web), s.Table(copied)) {
		t.Error("pools of equal backends in equal proportion have different tables")
	}
	state.Pools[3].Backends[0].Weight, state.Pools[3].Backends[1].Weight = 1, 1
	_, s = compile(t, state, obs, nil, Options{})
	web, copied = s.Pool(0), s.Pool(3)
	if web.Table != copied.Table || web.TableSize != copied.TableSize || web.Checksum != copied.Checksum {
		t.Errorf("equal pools do not share a table: %+v and %+v", *web, *copied)
	}
	for hash := range uint64(1000) {
		hash *= 0x9e3779b97f4a7c15
		a, b := s.Backend(s.Pick(web, hash)), s.Backend(s.Pick(copied, hash))
		if a.Addr != b.Addr || a.Port != b.Port || a == b {
			t.Fatalf("equal pools choose %+v and %+v", *a, *b)
		}
	}
}

func TestDraining(t *testing.T) {
	state, obs := lab()
	before, s := compile(t, state, obs, nil, Options{})
	id := backend(t, s, "web", "first").ID
	dnsID := backend(t, s, "dns", "2001:db8::a:1").ID

	removed := state.Pools[0].Backends[1]
	state.Pools[0].Backends = slices.Delete(state.Pools[0].Backends, 1, 2)
	state.Services = slices.DeleteFunc(state.Services, func(v model.Service) bool { return v.Pool == "dns" })
	six := state.Pools[1].Backends[1]
	state.Pools = slices.Delete(state.Pools, 1, 2) // the pool dns is gone
	opts := Options{Draining: []DrainingBackend{
		{Pool: "web", Backend: removed},
		{Pool: "dns", Backend: six},
		{Pool: "web", Backend: removed},                      // named twice
		{Pool: "plain", Backend: state.Pools[1].Backends[0]}, // is there
	}}
	during, s := compile(t, state, obs, before.IDs, opts)
	b := s.BackendByID(id)
	if b == nil || b.Flags != fib.BackendDraining || b.Weight != 0 || b.NextHop == fib.NoIndex {
		t.Fatalf("the draining backend is %+v", b)
	}
	web := s.Pool(b.Pool)
	if s.Name(web.Name) != "web" || web.MemberCount != 3 {
		t.Errorf("its pool is %q of %d members", s.Name(web.Name), web.MemberCount)
	}
	for _, m := range s.Table(web) {
		if s.Backend(s.Members(web)[m]) == b {
			t.Fatal("the draining backend is in the table")
		}
	}
	if b := s.BackendByID(dnsID); b == nil || s.Name(s.Pool(b.Pool).Name) != "dns" || s.Pool(b.Pool).TableSize != 0 || b.Flags != fib.BackendDraining {
		t.Errorf("the draining backend of a removed pool is %+v", b)
	}
	if b := backend(t, s, "plain", "198.18.10.1"); b.Flags != 0 || b.Weight != 1 {
		t.Errorf("a backend that is there drains: %+v", *b)
	}

	// Back again before the drain is over: the identity it had.
	state.Pools[0].Backends = append(state.Pools[0].Backends, removed)
	_, s = compile(t, state, obs, during.IDs, opts)
	if b := s.BackendByID(id); b == nil || b.Flags != 0 || b.Weight != 1 {
		t.Errorf("the backend that came back is %+v", b)
	}

	// Gone for good.
	state.Pools[0].Backends = state.Pools[0].Backends[:2]
	_, s = compile(t, state, obs, during.IDs, Options{})
	if b := s.BackendByID(id); b != nil {
		t.Errorf("the backend that is gone is %+v", b)
	}
}

func TestCompileRefuses(t *testing.T) {
	state, obs := lab()
	state.Services[0].Pool = "wbe"
	state.Pools[0].Backends[0].Weight = -1
	_, err := Compile(state, obs, nil, Options{})
	var invalid *InvalidError
	if !errors.As(err, &invalid) || len(invalid.Errors) != 2 {
		t.Fatalf("error is %v", err)
	}
	const want = `invalid state: pool[0].backend[0].weight: pool "web": backend 198.18.10.2:8080 has weight -1; it must be 0 to 65535 (and 1 more)`
	if err.Error() != want {
		t.Errorf("error is %s\nwant %s", err, want)
	}
	var field *model.Error
	if !errors.As(err, &field) || field.Kind != model.KindPool {
		t.Errorf("the first reason is %v", field)
	}

	state, obs = lab()
	obs.Interfaces = append(obs.Interfaces, obs.Interfaces[0])
	if _, err := Compile(state, obs, nil, Options{}); err == nil || err.Error() != "compile: interface front is observed twice" {
		t.Errorf("error is %v", err)
	}
}

func TestCompileIsPure(t *testing.T) {
	state, obs := lab()
	one, _ := compile(t, state, obs, nil, Options{})
	wantState, wantIDs := fmt.Sprintf("%+v", state), fmt.Sprintf("%+v", one.IDs)

	encode := func(r *Result) []byte {
		image, err := r.Builder.Encode(9)
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	changed, changedObs := lab()
	changed.Pools[0].Backends = changed.Pools[0].Backends[1:]
	changed.Services = changed.Services[1:]
	cache := &maglev.Cache{}
	var first []byte
	for range 5 {
		r, _ := compile(t, changed, changedObs, one.IDs, Options{Tables: cache})
		image := encode(r)
		if first == nil {
			first = image
		}
		if !slices.Equal(image, first) {
			t.Fatal("the same input gives two images")
		}
	}
	if got := fmt.Sprintf("%+v", one.IDs); got != wantIDs {
		t.Errorf("the IDs compiled from have changed:\n%s\n%s", got, wantIDs)
	}
	if got := fmt.Sprintf("%+v", state); got != wantState {
		t.Errorf("the state has changed")
	}
}

func TestEmptyState(t *testing.T) {
	result, s := compile(t, &model.State{}, nil, nil, Options{})
	if len(result.Warnings) != 0 || s.Local(packet.AddrFrom(ip("198.18.0.10"))) != nil || s.LocalByID(0) != nil || s.LocalByID(1) != nil {
		t.Errorf("an empty state has warnings %q or locals", result.Warnings)
	}
	if s.Service(1, 6, 80) != nil || s.ServiceByID(0) != nil || s.BackendByID(0) != nil || s.NextHop(0) != nil || s.NextHop(fib.NoIndex) != nil {
		t.Error("an empty state has records")
	}
}
