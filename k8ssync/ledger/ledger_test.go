package ledger

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/k8ssync/kube"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// ranges are prefixes, ranges and addresses.
func ranges(texts ...string) []kube.Range {
	var all []kube.Range
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			last := p.Addr().AsSlice()
			for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
				last[bit/8] |= 0x80 >> (bit % 8)
			}
			end, _ := netip.AddrFromSlice(last)
			all = append(all, kube.Range{First: p.Addr(), Last: end})
		} else if first, last, ok := strings.Cut(text, "-"); ok {
			all = append(all, kube.Range{First: addr(first), Last: addr(last)})
		} else {
			all = append(all, kube.Range{First: addr(text), Last: addr(text)})
		}
	}
	return all
}

func pools(list ...kube.AddressPool) []kube.AddressPool { return list }

func poolOf(name string, addresses ...string) kube.AddressPool {
	return kube.AddressPool{Name: name, AutoAssign: true, Ranges: ranges(addresses...)}
}

func key(name string) kube.Key {
	namespace, name, found := strings.Cut(name, "/")
	if !found {
		namespace, name = "default", namespace
	}
	return kube.Key{Kind: kube.Service, Namespace: namespace, Name: name}
}

// ask is a request for IPv4.
func ask(name string, change ...func(*Request)) Request {
	r := Request{Key: key(name), Families: []Family{IPv4}, Ports: []Port{{"TCP", 80}}}
	for _, c := range change {
		c(&r)
	}
	return r
}

func families(f ...Family) func(*Request) { return func(r *Request) { r.Families = f } }
func required(r *Request)                 { r.Required = true }
func one(r *Request)                      { r.One = true }
func hold(r *Request)                     { r.Options.Hold = true }
func retain(r *Request)                   { r.Options.Retain = true }
func inPool(name string) func(*Request)   { return func(r *Request) { r.Options.Pool = name } }
func sharing(key string) func(*Request)   { return func(r *Request) { r.Options.SharingKey = key } }
func shareWith(ns ...string) func(*Request) {
	return func(r *Request) { r.Options.SharingNamespace = ns }
}
func port(protocol string, number uint16) func(*Request) {
	return func(r *Request) { r.Ports = []Port{{protocol, number}} }
}
func wants(addresses ...string) func(*Request) {
	return func(r *Request) {
		for _, a := range addresses {
			r.Options.Addresses = append(r.Options.Addresses, addr(a))
		}
	}
}
func held(addresses ...string) func(*Request) {
	return func(r *Request) {
		for _, a := range addresses {
			r.Held = append(r.Held, addr(a))
		}
	}
}

// says is a decision in words: addresses, and a line for each refusal.
func (d Decision) says() string {
	var words []string
	for _, a := range d.Addresses {
		words = append(words, a.String())
	}
	text := strings.Join(words, " ")
	for _, r := range d.Refusals {
		text += fmt.Sprintf("\n%s: %s", r.Reason, r.Message)
	}
	return text
}

func expect(t *testing.T, l *Ledger, r Request, want string) {
	t.Helper()
	if got := l.Assign(r).says(); got != want {
		t.Errorf("%s gets\n%s\nwant\n%s", r.Key, got, want)
	}
}

func TestLowestUnusedFirst(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.10-192.0.2.12", "192.0.2.2")))
	expect(t, l, ask("a"), "192.0.2.2")
	expect(t, l, ask("b"), "192.0.2.10")
	expect(t, l, ask("a"), "192.0.2.2") // again
	expect(t, l, ask("c"), "192.0.2.11")
	l.Release(key("b"))
	l.Release(key("a"))
	expect(t, l, ask("d"), "192.0.2.12") // never used before
	expect(t, l, ask("e"), "192.0.2.10") // given back first
	expect(t, l, ask("f"), "192.0.2.2")
	expect(t, l, ask("g"), "\nPoolExhausted: no IPv4 address is free in pool \"a\"")
	l.Release(key("c"), addr("192.0.2.11"))
	expect(t, l, ask("g"), "\nPoolExhausted: no IPv4 address is free in pool \"a\"")
	l.Release(key("c"))
	expect(t, l, ask("g"), "192.0.2.11")
}

// TestReuseOutlivesPools: what was given back last is last even when pools have
// changed meanwhile.
func TestReuseOutlivesPools(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.1-192.0.2.3")))
	expect(t, l, ask("a"), "192.0.2.1")
	expect(t, l, ask("b"), "192.0.2.2")
	l.Release(key("b"))
	l.Release(key("a"))
	l.SetPools(pools(poolOf("b", "192.0.2.0/29")))
	for i, want := range []string{"192.0.2.0", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.2", "192.0.2.1"} {
		expect(t, l, ask(fmt.Sprint("s", i)), want)
	}
}

func TestRefusals(t *testing.T) {
	team := poolOf("team", "198.51.100.0/30")
	team.NamespaceSelector, team.ServiceSelector = "team=web", "tier in (front)"
	named := poolOf("named", "203.0.113.0/29", "2001:db8::/126")
	named.AutoAssign, named.AvoidBuggy = false, true
	spaces := poolOf("spaces", "203.0.113.64/30")
	spaces.Namespaces = []string{"db"}
	broken := poolOf("broken", "203.0.113.128/30")
	broken.ServiceSelector = "tier in front"

	l := New(nil)
	expect(t, l, ask("a"), "\nNoPool: there are no address pools")
	l.SetPools(pools(named))
	expect(t, l, ask("a"), "\nNotAutoAssigned: no address pool is assigned from automatically (autoAssign); name one")
	l.SetPools(pools(named, team, spaces, broken))
	expect(t, l, ask("a"), `
SelectorMismatch: no address pool is for this service: "broken": service selector "tier in front": unable to parse requirement: found 'front' expected: '('; "spaces": it is not for namespace "default"; "team": its namespace selector "team=web" does not select namespace "default"`)
	expect(t, l, ask("a", func(r *Request) { r.NamespaceLabels = map[string]string{"team": "web"} }, inPool("team")), `
SelectorMismatch: pool "team" is not for this service: its service selector "tier in (front)" does not select the labels of the service`)
	expect(t, l, ask("a", func(r *Request) {
		r.NamespaceLabels, r.Labels = map[string]string{"team": "web"}, map[string]string{"tier": "front"}
	}), "198.51.100.0")
	expect(t, l, ask("b", inPool("nowhere")), "\nNoSuchPool: there is no address pool \"nowhere\"")
	expect(t, l, ask("b", inPool("nowhere"), wants("203.0.113.1")), "\nNoSuchPool: there is no address pool \"nowhere\"")
	expect(t, l, ask("b", wants("192.0.2.1")), "\nAddressNotInPool: 192.0.2.1 is in no address pool")
	expect(t, l, ask("b", wants("203.0.113.0")), "\nAddressNotInPool: 203.0.113.0 is not given out of pool \"named\", which avoids .0 and .255")
	expect(t, l, ask("b", wants("203.0.113.0"), inPool("named")), "\nAddressNotInPool: 203.0.113.0 is not given out of pool \"named\", which avoids .0 and .255")
	expect(t, l, ask("b", wants("198.51.100.2"), inPool("named")), "\nAddressNotInPool: 198.51.100.2 is not in pool \"named\"")
	expect(t, l, ask("b", wants("203.0.113.65")), "\nSelectorMismatch: 203.0.113.65 is in pool \"spaces\": it is not for namespace \"default\"")
	expect(t, l, ask("db/b", wants("203.0.113.65"), families(IPv6)), "\nFamilyUnavailable: there are no IPv6 addresses in pool \"spaces\"")
	expect(t, l, ask("db/b", inPool("spaces"), families(IPv6)), "\nFamilyUnavailable: there are no IPv6 addresses in pool \"spaces\"")
	expect(t, l, ask("db/b", inPool("spaces"), families(IPv6, IPv4)), "203.0.113.64")
	expect(t, l, ask("db/c", inPool("spaces"), families(IPv6, IPv4), required), "\nFamilyUnavailable: there are no IPv6 addresses in pool \"spaces\"")
	expect(t, l, ask("b", wants("203.0.113.1")), "203.0.113.1")
	expect(t, l, ask("c", wants("203.0.113.1")), "\nAddressTaken: 203.0.113.1 is held by service default/b")
	expect(t, l, ask("c", wants("203.0.113.1"), hold), "")
}

func TestSharing(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/28")))
	expect(t, l, ask("dns", sharing("k"), port("UDP", 53)), "192.0.2.0")
	expect(t, l, ask("tcp", sharing("k"), port("TCP", 53)), "192.0.2.0") // joins
	expect(t, l, ask("web", sharing("k"), port("TCP", 53)), "192.0.2.1") // a port in common
	expect(t, l, ask("more", sharing("k"), port("TCP", 80)), "192.0.2.0")
	const at = "192.0.2.0"
	expect(t, l, ask("x", wants(at)), "\nAddressTaken: 192.0.2.0 is held by service default/dns, which shares it by a sharing key; this service has none")
	expect(t, l, ask("x", wants(at), sharing("l"), port("TCP", 99)), "\nSharingKeyMismatch: 192.0.2.0 is held by service default/dns, which shares it by another sharing key")
	expect(t, l, ask("x", wants(at), sharing("k"), port("UDP", 53)), "\nPortCollision: 192.0.2.0 is held by service default/dns, which serves UDP port 53, too")
	expect(t, l, ask("b/x", wants(at), sharing("k"), port("TCP", 99)), "\nSharingNamespaceMismatch: 192.0.2.0 is held by service default/dns, and this service does not share addresses with namespace \"default\"")
	expect(t, l, ask("b/x", wants(at), sharing("k"), port("TCP", 99), shareWith("default")), "\nSharingNamespaceMismatch: 192.0.2.0 is held by service default/dns, which does not share addresses with namespace \"b\"")
	expect(t, l, ask("b/x", sharing("k"), port("TCP", 99), shareWith("default")), "192.0.2.2")

	expect(t, l, ask("alone"), "192.0.2.3")
	expect(t, l, ask("x", wants("192.0.2.3"), sharing("k")), "\nAddressTaken: 192.0.2.3 is held by service default/alone, which does not share it")

	expect(t, l, ask("c/a", sharing("m"), shareWith("*"), port("TCP", 1)), "192.0.2.4")
	expect(t, l, ask("d/a", sharing("m"), shareWith("c"), port("TCP", 2)), "192.0.2.4")
	gateway := ask("d/a", sharing("m"), shareWith("c"), port("TCP", 3))
	gateway.Key.Kind = kube.Gateway
	expect(t, l, gateway, "192.0.2.4")

	// One that stops sharing well has to go: it is what has changed.
	expect(t, l, ask("more", sharing("k"), port("UDP", 53)), "192.0.2.1\nPortCollision: 192.0.2.0 is held by service default/dns, which serves UDP port 53, too")
	expect(t, l, ask("dns", sharing("k"), port("UDP", 53)), "192.0.2.0")
	if got := fmt.Sprint(l.Holds(key("more"))); got != "[192.0.2.0 192.0.2.1]" {
		t.Errorf("before it has left, it holds %s", got)
	}
	l.Release(key("more"), addr("192.0.2.1"))
	if got := fmt.Sprint(l.Holds(key("more"))); got != "[192.0.2.1]" {
		t.Errorf("after it has left, it holds %s", got)
	}
	// The last one that shares an address keeps it without a key as well.
	l.Release(key("tcp"))
	expect(t, l, ask("dns", port("UDP", 53)), "192.0.2.0")
}

func TestHeldStays(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/28"), poolOf("b", "198.51.100.0/28")))
	expect(t, l, ask("s"), "192.0.2.0")
	have := held("192.0.2.0")
	expect(t, l, ask("s", have, wants("203.0.113.1")), "192.0.2.0\nAddressNotInPool: 203.0.113.1 is in no address pool")
	expect(t, l, ask("s", have, inPool("c")), "192.0.2.0\nNoSuchPool: there is no address pool \"c\"; the service keeps 192.0.2.0, of pool \"a\"")
	expect(t, l, ask("s", have, wants("198.51.100.1"), hold), "192.0.2.0")
	expect(t, l, ask("s", have, families(IPv4, IPv6), required), "192.0.2.0\nFamilyUnavailable: there are no IPv6 addresses in pools \"a\", \"b\"")
	expect(t, l, ask("s", have, families(IPv4, IPv6)), "192.0.2.0")

	narrow := poolOf("a", "192.0.2.8/29")
	l.SetPools(pools(narrow, poolOf("b", "198.51.100.0/28")))
	const outside = "192.0.2.0\nAddressOutsidePools: 192.0.2.0 is in no address pool any more; the service keeps it until it asks for another one"
	expect(t, l, ask("s", have), outside)
	expect(t, l, ask("s", have, inPool("b")), outside)
	expect(t, l, ask("new", wants("192.0.2.0")), "\nAddressNotInPool: 192.0.2.0 is in no address pool")

	selective := poolOf("a", "192.0.2.0/28")
	selective.Namespaces = []string{"db"}
	l.SetPools(pools(selective, poolOf("b", "198.51.100.0/28")))
	expect(t, l, ask("s", have), "192.0.2.0\nAddressHeldAgainstOptions: pool \"a\" is not for the service any more: it is not for namespace \"default\"; it keeps 192.0.2.0")
	// It asks for another one and can have it.
	expect(t, l, ask("s", have, inPool("b")), "198.51.100.0")
	if got := fmt.Sprint(l.Holds(key("s"))); got != "[192.0.2.0 198.51.100.0]" {
		t.Errorf("until it has left it holds %s", got)
	}
	expect(t, l, ask("db/t", wants("192.0.2.0")), "\nAddressTaken: 192.0.2.0 is held by service default/s")
	// The status still says the old one; its wish stays the same.
	expect(t, l, ask("s", have, inPool("b")), "198.51.100.0")
	l.Release(key("s"), addr("198.51.100.0"))
	expect(t, l, ask("db/t", wants("192.0.2.0")), "192.0.2.0")
}

func TestStatusOfOthersIsNotAdopted(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/28")))
	// In a pool: what another load balancer has assigned is taken over.
	expect(t, l, ask("s", held("192.0.2.7")), "192.0.2.7")
	expect(t, l, ask("t", held("10.0.0.1")), "192.0.2.0")
	expect(t, l, ask("u", held("192.0.2.7")), "192.0.2.1\nAddressTaken: 192.0.2.7 is held by service default/s")
}

func TestEmptiedStatusIsRestored(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/28")))
	expect(t, l, ask("r"), "192.0.2.0")
	expect(t, l, ask("s"), "192.0.2.1")
	l.Release(key("r"))
	expect(t, l, ask("s"), "192.0.2.1")
}

func TestDualStack(t *testing.T) {
	both := poolOf("c", "192.0.2.32/31", "2001:db8:c::/127")
	l := New(pools(poolOf("a", "192.0.2.0/31"), poolOf("b", "2001:db8:b::/127"), both))
	expect(t, l, ask("a", families(IPv6, IPv4)), "2001:db8:c:: 192.0.2.32") // of one pool
	expect(t, l, ask("b", families(IPv4, IPv6), required), "192.0.2.33 2001:db8:c::1")
	expect(t, l, ask("c", families(IPv4, IPv6), required), "192.0.2.0 2001:db8:b::") // of two
	expect(t, l, ask("d", families(IPv6)), "2001:db8:b::1")
	expect(t, l, ask("e", families(IPv4, IPv6), required), "\nPoolExhausted: no IPv6 address is free in pools \"b\", \"c\"")
	expect(t, l, ask("e", families(IPv4, IPv6)), "192.0.2.1\nPoolExhausted: no IPv6 address is free in pools \"b\", \"c\"")
	if len(l.Holds(key("e"))) != 1 {
		t.Errorf("holds %v", l.Holds(key("e")))
	}
	// It does with one of them.
	expect(t, l, ask("a", families(IPv4), held("2001:db8:c::", "192.0.2.32")), "192.0.2.32")
	l.Release(key("a"), addr("192.0.2.32"))
	expect(t, l, ask("e", families(IPv4, IPv6), held("192.0.2.1")), "192.0.2.1 2001:db8:c::")
	// Without another pool for both, both stay where they are.
	l.SetPools(pools(both, poolOf("d", "198.51.100.0/31")))
	expect(t, l, ask("b", families(IPv4, IPv6), required, held("192.0.2.33", "2001:db8:c::1"), inPool("d")), "192.0.2.33 2001:db8:c::1\nFamilyUnavailable: there are no IPv6 addresses in pool \"d\"")
}

func TestOneOfFamilies(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0"), poolOf("b", "2001:db8::/127")))
	expect(t, l, ask("a", families(IPv4, IPv6), one), "192.0.2.0")
	expect(t, l, ask("b", families(IPv4, IPv6), one), "2001:db8::")
	expect(t, l, ask("c", families(IPv4, IPv6), one, wants("2001:db8::1")), "2001:db8::1")
	expect(t, l, ask("d", families(IPv4, IPv6), one), "\nPoolExhausted: no IPv4 address is free in pool \"a\"\nPoolExhausted: no IPv6 address is free in pool \"b\"")
	l.Release(key("a"))
	expect(t, l, ask("b", families(IPv4, IPv6), one, held("2001:db8::")), "2001:db8::")
}

func TestPriorities(t *testing.T) {
	low, high, mine := poolOf("a", "192.0.2.0"), poolOf("b", "192.0.2.1"), poolOf("c", "192.0.2.2")
	high.Priority = 5
	mine.Namespaces = []string{"default"}
	l := New(pools(low, high, mine))
	expect(t, l, ask("a"), "192.0.2.1") // the priority
	expect(t, l, ask("b"), "192.0.2.2") // what is for some only
	expect(t, l, ask("c"), "192.0.2.0")
}

func TestReservations(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/29")))
	web := key("web")
	l.Record(Reservation{Address: addr("192.0.2.0")})
	l.Record(Reservation{Address: addr("192.0.2.5"), For: &web})
	expect(t, l, ask("a"), "192.0.2.1")
	expect(t, l, ask("b", wants("192.0.2.0")), "\nAddressReserved: 192.0.2.0 is reserved, for nobody")
	expect(t, l, ask("b", wants("192.0.2.5")), "\nAddressReserved: 192.0.2.5 is reserved for service default/web")
	expect(t, l, ask("web"), "192.0.2.5") // without asking
	l.Release(web)
	expect(t, l, ask("web"), "192.0.2.5") // an operator's word stays
	l.Release(web)
	l.Erase(addr("192.0.2.5"))
	expect(t, l, ask("web"), "192.0.2.2")

	// What is in use goes on to be, whoever it is reserved for from now on.
	other := key("other")
	l.Record(Reservation{Address: addr("192.0.2.2"), For: &other, Holders: []Holder{{Key: web}}})
	expect(t, l, ask("web", held("192.0.2.2")), "192.0.2.2\nAddressReserved: 192.0.2.2 is reserved for service default/other; the service keeps it until it asks for another one")
	expect(t, l, ask("other"), "192.0.2.3")
	l.Release(web)
	expect(t, l, ask("web", wants("192.0.2.2")), "\nAddressReserved: 192.0.2.2 is reserved for service default/other")
}

func TestRetain(t *testing.T) {
	l := New(pools(poolOf("a", "192.0.2.0/30")))
	expect(t, l, ask("a", retain), "192.0.2.0")
	l.Release(key("a"))
	r, ok := l.Reservation(addr("192.0.2.0"))
	if !ok || !r.Retained || r.For == nil || *r.For != key("a") || len(r.Holders) != 0 {
		t.Errorf("after its release: %+v", r)
	}
	expect(t, l, ask("b"), "192.0.2.1")
	expect(t, l, ask("c", wants("192.0.2.0")), "\nAddressReserved: 192.0.2.0 is reserved for service default/a")
	// It is back, and does not ask to retain it this time.
	expect(t, l, ask("a"), "192.0.2.0")
	l.Release(key("a"))
	if _, ok := l.Reservation(addr("192.0.2.0")); ok {
		t.Error("it is reserved although nobody asks for that")
	}
	l.Release(key("a")) // nothing
}

func TestConflictingPools(t *testing.T) {
	b := poolOf("b", "192.0.2.4-192.0.2.20", "2001:db8::/64")
	l := New(pools(b, poolOf("c", "192.0.2.0/28", "2001:db8::8"), poolOf("a", "192.0.2.7-192.0.2.8"), poolOf("c", "10.0.0.1")))
	var told []string
	for _, p := range l.Pools() {
		text := fmt.Sprint(p.Name, " ", counts(p.IPv4), " ", counts(p.IPv6))
		for _, c := range p.Conflicts {
			text += fmt.Sprintf(" [%s has %s of %s]", c.Owner, c.Addresses, c.Pool)
		}
		told = append(told, text)
	}
	want := []string{
		"a 0+0+2=2 - [a has 192.0.2.7-192.0.2.8 of b] [a has 192.0.2.7-192.0.2.8 of c]",
		"b 0+0+15=15 0+0+9223372036854775807=9223372036854775807 [a has 192.0.2.7-192.0.2.8 of a] [b has 192.0.2.4-192.0.2.6 of c] [b has 192.0.2.9-192.0.2.15 of c] [b has 2001:db8::8 of c]",
		"c 0+0+4=4 0+0+0=0 [a has 192.0.2.7-192.0.2.8 of a] [b has 192.0.2.4-192.0.2.6 of b] [b has 192.0.2.9-192.0.2.15 of b] [b has 2001:db8::8 of b]",
	}
	if !slices.Equal(told, want) {
		t.Errorf("pools:\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	expect(t, l, ask("s", inPool("c"), wants("192.0.2.9")), "\nAddressNotInPool: 192.0.2.9 is in pool \"b\", which lists it as well as pool \"c\", and is before it")
	// An address that a pool lists is good enough for whoever names that pool.
	expect(t, l, ask("s", held("192.0.2.9"), inPool("c")), "192.0.2.9")
}

func counts(c *Counts) string {
	if c == nil {
		return "-"
	}
	return fmt.Sprintf("%d+%d+%d=%d", c.Assigned, c.Reserved, c.Free, c.Total)
}

func TestAvoidBuggy(t *testing.T) {
	p := poolOf("a", "192.0.2.254-192.0.3.1", "192.0.5.255", "2001:db8::ff/128")
	p.AvoidBuggy = true
	l := New(pools(p))
	if got := counts(l.Pools()[0].IPv4); got != "0+0+2=2" {
		t.Errorf("counts %s", got)
	}
	expect(t, l, ask("a"), "192.0.2.254")
	expect(t, l, ask("b"), "192.0.3.1")
	expect(t, l, ask("c"), "\nPoolExhausted: no IPv4 address is free in pool \"a\"")
	expect(t, l, ask("d", families(IPv6)), "2001:db8::ff")
}

// TestAdoption: who has an address that two claim.
func TestAdoption(t *testing.T) {
	old, young := time.Unix(1, 0), time.Unix(2, 0)
	created := func(at time.Time) func(*Request) { return func(r *Request) { r.Created = at } }
	at := held("192.0.2.1")
	first := func(l *Ledger) string {
		r, _ := l.Reservation(addr("192.0.2.1"))
		var names []string
		for _, h := range r.Holders {
			names = append(names, h.Key.Name)
		}
		return strings.Join(names, " ")
	}
	for _, test := range []struct {
		name     string
		recorded []Holder
		requests []Request
		want     string
	}{
		{"the older", nil, []Request{ask("a", at, created(young)), ask("b", at, created(old))}, "b"},
		{"the first by name", nil, []Request{ask("b", at), ask("a", at)}, "a"},
		{"the one that is recorded", []Holder{{Key: key("b"), Ports: []Port{{"TCP", 81}}}}, []Request{ask("a", at, created(old)), ask("b", at, created(young))}, "b"},
		{"of two that are recorded the one that has not changed; the other leaves", []Holder{
			{Key: key("a"), SharingKey: "k", Ports: []Port{{"TCP", 81}}}, {Key: key("b"), SharingKey: "k", Ports: []Port{{"TCP", 80}}},
		}, []Request{ask("a", at, sharing("k"), created(old)), ask("b", at, sharing("k"), created(young))}, "a b"},
		{"all that share", nil, []Request{ask("a", at, sharing("k")), ask("b", at, sharing("k"), port("TCP", 81))}, "a b"},
		{"one that leaves, too", []Holder{{Key: key("a")}}, []Request{ask("a", held("192.0.2.2"))}, "a"},
		{"one that has left a bad neighbour", []Holder{{Key: key("a")}}, []Request{ask("a", held("192.0.2.2")), ask("b", at)}, "b"},
	} {
		for range 2 {
			l := New(pools(poolOf("a", "192.0.2.0/28")))
			if len(test.recorded) > 0 {
				l.Record(Reservation{Address: addr("192.0.2.1"), Holders: test.recorded})
			}
			l.Adopt(test.requests)
			if got := first(l); got != test.want {
				t.Errorf("%s: held by %q, want %q", test.name, got, test.want)
			}
			slices.Reverse(test.requests)
		}
	}
}
