package steer

import (
	"errors"
	"net/netip"
	"testing"
)

func TestDeny(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeNative)
	r := runner{t, s.ifaces[p.ifindex()].prog, p.ifindex()}
	friend4 := netip.MustParseAddr("198.18.0.2")
	to4, to6 := udp(t, client4, silent4, 10), udp(t, client6, silent6, 10)

	check := func(want4, want6 uint32) {
		t.Helper()
		for _, c := range []struct {
			name  string
			frame []byte
			want  uint32
		}{
			{"IPv4 to a VIP", to4, want4},
			{"IPv4 to a VIP, tagged", udp(t, client4, silent4, 10, cTag), want4},
			{"IPv6 to a VIP", to6, want6},
			{"IPv4 to a VIP from another source", udp(t, friend4, silent4, 10), xdpPass},
			{"IPv4 to the host", udp(t, client4, host4, 10), xdpPass},
			{"IPv6 to the host", udp(t, client6, host6, 10), xdpPass},
			{"ARP request for a VIP", arp(t, 1, silent4), xdpPass},
			{"solicitation for a VIP", solicit(t, client6, solicited(vip6), vip6, 255), xdpDrop},
		} {
			if got := r.verdict(c.frame, 0); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, actionName(got), actionName(c.want))
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(xdpPass, xdpPass)
	must(s.Deny(client4))
	must(s.Deny(client6))
	must(s.Deny(client6))
	check(xdpDrop, xdpDrop)
	if got, want := counters(t, s, p.ifindex()), (Counters{Denied: 3, Passed: 6, FailPassed: 5, FailDropped: 2}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
	denied, err := s.Denied()
	must(err)
	want4 := Denial{Packets: 2, Bytes: uint64(len(to4) + len(udp(t, client4, silent4, 10, cTag)))}
	want6 := Denial{Packets: 1, Bytes: uint64(len(to6))}
	if len(denied) != 2 || denied[client4] != want4 || denied[client6] != want6 {
		t.Errorf("denied %v, want %v and %v", denied, want4, want6)
	}
	if lost, err := s.Undeny(client4); err != nil || lost != want4 {
		t.Errorf("undeny: lost %v, %v, want %v", lost, err, want4)
	}
	if lost, err := s.Undeny(client4); err != nil || lost != (Denial{}) {
		t.Errorf("undeny again: lost %v, %v", lost, err)
	}
	check(xdpPass, xdpDrop)
	if _, err := s.Undeny(client6); err != nil {
		t.Fatal(err)
	}
	check(xdpPass, xdpPass)
	var set objectSettings
	must(s.shared.config.Lookup(uint32(0), &set))
	if set.Denied != 0 {
		t.Errorf("with nobody denied the programs are told of %d", set.Denied)
	}

	for _, c := range []struct {
		addr netip.Addr
		want string
	}{
		{netip.Addr{}, "deny: address is missing"},
		{netip.MustParseAddr("ff02::1"), "deny: address ff02::1 is a multicast address"},
	} {
		if err := s.Deny(c.addr); err == nil || err.Error() != c.want {
			t.Errorf("deny %v: %v, want %q", c.addr, err, c.want)
		}
	}
}

func TestDenyFull(t *testing.T) {
	s := open(t, "")
	for i := range MaxDenied - 1 {
		if err := s.Deny(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Deny(client6); err != nil {
		t.Fatal(err)
	}
	err := s.Deny(netip.MustParseAddr("2001:db8::2"))
	if !errors.Is(err, ErrDeniedFull) || err.Error() != "deny 2001:db8::2: the table of denied sources is full" {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.Undeny(client6); err != nil {
		t.Fatal(err)
	}
	if err := s.Deny(netip.MustParseAddr("2001:db8::2")); err != nil {
		t.Errorf("after making room: %v", err)
	}
}
