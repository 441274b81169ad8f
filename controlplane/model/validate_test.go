package model

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var ip = netip.MustParseAddr

// valid is a state with one of everything and nothing wrong.
func valid() *State {
	return &State{
		VIPs: []VIP{{Address: ip("198.18.0.10"), AnswerARP: true, AnswerPing: true}, {Address: ip("2001:db8::10"), FailAction: FailPass}},
		Services: []Service{
			{Name: "web", VIP: ip("198.18.0.10"), Protocol: TCP, Ports: PortRange{80, 80}, Pool: "web"},
			{Name: "dns", VIP: ip("2001:db8::10"), Protocol: UDP, Ports: PortRange{53, 53}, Pool: "mixed", Method: GUE},
			{Name: "rest", VIP: ip("198.18.0.10"), Protocol: TCP, Ports: AllPorts, Pool: "plain"},
		},
		Pools: []Pool{
			{Name: "web", Backends: []Backend{{Address: ip("198.18.10.1"), Port: 8080, Weight: 1}, {Address: ip("198.18.10.2"), Port: 8080}}},
			{Name: "mixed", Backends: []Backend{{Address: ip("198.18.10.1"), Weight: 1}, {Address: ip("2001:db8::a:1"), Port: 53, Weight: MaxWeight, MTU: 1280}}},
			{Name: "plain", Backends: []Backend{{Address: ip("198.18.10.1"), Weight: 1, Name: "one", MTU: 576}}},
		},
		SNATs:  []SNAT{{Address: ip("198.18.0.200")}},
		Tunnel: Tunnel{Source4: ip("198.18.0.250"), Source6: ip("2001:db8::250")},
	}
}

func TestValidState(t *testing.T) {
	for _, s := range []*State{{}, valid()} {
		if errs := Validate(s); len(errs) != 0 {
			t.Errorf("a valid state has errors: %v", errs)
		}
	}
}

// TestValidate breaks the valid state in one way at a time and wants exactly
// these errors.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(s *State)
		want []string
	}{
		{"VIP missing", func(s *State) { s.VIPs[0].Address = netip.Addr{} }, []string{"vip[0].address: VIP address is missing"}},
		{"VIP unspecified", func(s *State) { s.VIPs[0].Address = ip("0.0.0.0") }, []string{"vip[0].address: VIP address 0.0.0.0 is the unspecified address"}},
		{"VIP loopback", func(s *State) { s.VIPs[0].Address = ip("::1") }, []string{"vip[0].address: VIP address ::1 is a loopback address"}},
		{"VIP multicast", func(s *State) { s.VIPs[0].Address = ip("239.1.2.3") }, []string{"vip[0].address: VIP address 239.1.2.3 is a multicast address"}},
		{"VIP broadcast", func(s *State) { s.VIPs[0].Address = ip("255.255.255.255") }, []string{"vip[0].address: VIP address 255.255.255.255 is the broadcast address"}},
		{"VIP of no host", func(s *State) { s.VIPs[0].Address = ip("0.1.2.3") }, []string{"vip[0].address: VIP address 0.1.2.3 is in 0.0.0.0/8, which is no host's address"}},
		{"VIP mapped", func(s *State) { s.VIPs[0].Address = ip("::ffff:192.0.2.1") }, []string{"vip[0].address: VIP address ::ffff:192.0.2.1 is an IPv4-mapped IPv6 address; write it as 192.0.2.1"}},
		{"VIP with zone", func(s *State) { s.VIPs[0].Address = ip("2001:db8::1%eth0") }, []string{"vip[0].address: VIP address 2001:db8::1%eth0 has a zone"}},
		{"VIP link-local", func(s *State) { s.VIPs[0].Address = ip("fe80::1") }, []string{"vip[0].address: VIP address fe80::1 is an IPv6 link-local address"}},
		{"VIP twice", func(s *State) { s.VIPs[1].Address = ip("198.18.0.10") }, []string{"vip[1].address: VIP 198.18.0.10 is listed twice"}},
		{"fail action", func(s *State) { s.VIPs[1].FailAction = "reject" }, []string{`vip[1].fail_action: VIP 2001:db8::10: fail action "reject" is neither drop nor pass`}},

		{"SNAT twice", func(s *State) { s.SNATs = append(s.SNATs, s.SNATs[0]) }, []string{"snat[1].address: SNAT address 198.18.0.200 is listed twice"}},
		{"SNAT is a VIP", func(s *State) { s.SNATs = append(s.SNATs, SNAT{Address: ip("198.18.0.10")}) }, []string{"snat[1].address: SNAT address 198.18.0.10 is also a VIP"}},
		{"SNAT is an unlisted VIP", func(s *State) { s.VIPs = nil; s.SNATs[0].Address = ip("198.18.0.10") }, []string{"snat[0].address: SNAT address 198.18.0.10 is also a VIP"}},
		{"SNAT port 0", func(s *State) { s.SNATs[0].Ports = PortRange{0, 9} }, []string{"snat[0].ports: SNAT address 198.18.0.200: port 0 is no source port"}},
		{"SNAT ports reversed", func(s *State) { s.SNATs[0].Ports = PortRange{9, 8} }, []string{"snat[0].ports: SNAT address 198.18.0.200: the port range 9-8 ends before it begins"}},

		{"tunnel family 4", func(s *State) { s.Tunnel.Source4 = ip("2001:db8::251") }, []string{"tunnel.source_ipv4: tunnel source 2001:db8::251 is not an IPv4 address"}},
		{"tunnel family 6", func(s *State) { s.Tunnel.Source6 = ip("192.0.2.9") }, []string{"tunnel.source_ipv6: tunnel source 192.0.2.9 is not an IPv6 address"}},
		{"tunnel multicast", func(s *State) { s.Tunnel.Source6 = ip("ff02::1") }, []string{"tunnel.source_ipv6: tunnel source ff02::1 is a multicast address"}},
		{"tunnel is a VIP", func(s *State) { s.Tunnel.Source4 = ip("198.18.0.10") }, []string{"tunnel.source_ipv4: tunnel source 198.18.0.10 is also a VIP"}},
		{"tunnel is a SNAT address", func(s *State) { s.Tunnel.Source4 = ip("198.18.0.200") }, []string{"tunnel.source_ipv4: tunnel source 198.18.0.200 is also a SNAT address"}},

		{"limits", func(s *State) {
			s.Limits = Limits{FragmentHold: -1, FragmentHoldTimeout: -time.Second, FragmentTimeout: 2 * time.Hour, ReplyRate: 1 << 25, ReplyBurst: -7}
		}, []string{
			"limits.fragment_hold: fragment_hold is -1; it must be 1 to 65536",
			"limits.fragment_hold_timeout: fragment_hold_timeout is -1s; it must be 1ms to 1m0s",
			"limits.fragment_timeout: fragment_timeout is 2h0m0s; it must be 1ms to 1h0m0s",
			"limits.reply_rate: reply_rate is 33554432; it must be 1 to 16777216",
			"limits.reply_burst: reply_burst is -7; it must be 1 to 16777216",
		}},

		{"pool without name", func(s *State) { s.Pools = append(s.Pools, Pool{}) }, []string{"pool[3].name: pool name is missing"}},
		{"pool twice", func(s *State) { s.Pools = append(s.Pools, Pool{Name: "web"}) }, []string{`pool[3].name: pool "web" is defined twice`}},
		{"pool name too long", func(s *State) { s.Pools = append(s.Pools, Pool{Name: strings.Repeat("x", 254)}) }, []string{"pool[3].name: pool name is longer than 253 bytes"}},
		{"pool name with a newline", func(s *State) { s.Pools = append(s.Pools, Pool{Name: "a\nb"}) }, []string{"pool[3].name: pool name has characters that cannot be printed"}},
		{"pool name not UTF-8", func(s *State) { s.Pools = append(s.Pools, Pool{Name: "a\xff"}) }, []string{"pool[3].name: pool name has characters that cannot be printed"}},
		{"pool name with a space", func(s *State) { s.Pools = append(s.Pools, Pool{Name: "a "}) }, []string{"pool[3].name: pool name begins or ends with a space"}},
		{"pool too large", func(s *State) {
			p := Pool{Name: "large"}
			for i := range MaxPoolBackends + 1 {
				p.Backends = append(p.Backends, Backend{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
			}
			s.Pools = append(s.Pools, p)
		}, []string{`pool[3].backend: pool "large" has 65536 backends; it may have 65535`}},
		{"pool refuses less than nothing", func(s *State) { s.Pools[0].Refused = -1 }, []string{`pool[0].refused: pool "web" refuses a share of weight -1; it must be 0 to 65535`}},
		{"pool refuses too much", func(s *State) { s.Pools[0].Refused = 65536 }, []string{`pool[0].refused: pool "web" refuses a share of weight 65536; it must be 0 to 65535`}},
		{"pool refuses a share", func(s *State) { s.Pools[0].Refused = 65535 }, nil},
		{"pool too large to refuse a share", func(s *State) {
			p := Pool{Name: "large", Refused: 1}
			for i := range MaxPoolBackends {
				p.Backends = append(p.Backends, Backend{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
			}
			s.Pools = append(s.Pools, p)
		}, []string{`pool[3].refused: pool "large" has 65535 backends; one that refuses a share may have 65534`}},
		{"backend twice", func(s *State) { s.Pools[0].Backends[1] = s.Pools[0].Backends[0] }, []string{`pool[0].backend[1].address: pool "web": backend 198.18.10.1:8080 is listed twice`}},
		{"backend at two ports", func(s *State) { s.Pools[0].Backends[1].Address = ip("198.18.10.1"); s.Pools[0].Backends[1].Port = 8081 }, nil},
		{"backend weight", func(s *State) { s.Pools[0].Backends[0].Weight, s.Pools[0].Backends[1].Weight = -1, 65536 }, []string{
			`pool[0].backend[0].weight: pool "web": backend 198.18.10.1:8080 has weight -1; it must be 0 to 65535`,
			`pool[0].backend[1].weight: pool "web": backend 198.18.10.2:8080 has weight 65536; it must be 0 to 65535`,
		}},
		{"backend MTU", func(s *State) { s.Pools[1].Backends[0].MTU, s.Pools[1].Backends[1].MTU = 575, 1279 }, []string{
			`pool[1].backend[0].mtu: pool "mixed": backend 198.18.10.1 has MTU 575; it must be 576 to 65535`,
			`pool[1].backend[1].mtu: pool "mixed": backend [2001:db8::a:1]:53 has MTU 1279; it must be 1280 to 65535`,
		}},
		{"backend names", func(s *State) { s.Pools[0].Backends[0].Name, s.Pools[0].Backends[1].Name = "x", "x" }, []string{`pool[0].backend[1].name: pool "web": backend name "x" is given twice`}},
		{"backend name", func(s *State) { s.Pools[0].Backends[0].Name = " x" }, []string{`pool[0].backend[0].name: pool "web": backend name begins or ends with a space`}},
		{"backend missing", func(s *State) { s.Pools[0].Backends[0].Address = netip.Addr{} }, []string{`pool[0].backend[0].address: pool "web": backend address is missing`}},
		{"backend loopback", func(s *State) { s.Pools[0].Backends[0].Address = ip("127.0.0.1") }, []string{`pool[0].backend[0].address: pool "web": backend address 127.0.0.1 is a loopback address`}},
		{"backend is a VIP", func(s *State) { s.Pools[0].Backends[0].Address = ip("198.18.0.10") }, []string{`pool[0].backend[0].address: pool "web": backend 198.18.0.10 is also a VIP`}},

		{"service without name", func(s *State) { s.Services[0].Name = "" }, []string{"service[0].name: service name is missing"}},
		{"service name twice", func(s *State) { s.Services[1].Name = "web" }, []string{`service[1].name: service "web" is defined twice`}},
		{"service VIP", func(s *State) { s.Services[0].VIP = ip("224.0.0.1") }, []string{`service[0].vip: service "web": VIP 224.0.0.1 is a multicast address`}},
		{"pool missing", func(s *State) { s.Services[0].Pool = "" }, []string{`service[0].pool: service "web": pool is missing`}},
		{"pool unknown", func(s *State) { s.Services[0].Pool = "wbe" }, []string{`service[0].pool: service "web": there is no pool "wbe"`}},
		{"protocol missing", func(s *State) { s.Services[0].Protocol = "" }, []string{`service[0].protocol: service "web": protocol is missing`}},
		{"protocol unknown", func(s *State) { s.Services[0].Protocol = "icmp" }, []string{`service[0].protocol: service "web": protocol "icmp" is none of tcp, udp, sctp`}},
		{"method unknown", func(s *State) { s.Services[0].Method = "dnat" }, []string{`service[0].method: service "web": method "dnat" is none of nat, ipip, gue, l2`}},
		{"policy unknown", func(s *State) { s.Services[0].Gone = "ignore" }, []string{`service[0].on_backend_gone: service "web": "ignore" is none of reset, rehash, drop`}},
		{"port 0 in a range", func(s *State) { s.Services[2].Ports = PortRange{0, 100} }, []string{`service[2].port: service "rest": port 0 cannot be part of a range; port = 0 alone means every port`}},
		{"ports reversed", func(s *State) { s.Services[2].Ports = PortRange{100, 90} }, []string{`service[2].port: service "rest": the port range 100-90 ends before it begins`}},
		{"affinity timeout", func(s *State) { s.Services[0].Affinity = Affinity{true, 25 * 24 * time.Hour} }, []string{`service[0].affinity_timeout: service "web": affinity_timeout is 600h0m0s; it must be 1s to 576h0m0s`}},
		{"affinity timeout without affinity", func(s *State) { s.Services[0].Affinity = Affinity{false, time.Millisecond} }, []string{`service[0].affinity_timeout: service "web": affinity_timeout is 1ms; it must be 1s to 576h0m0s`}},
		{"drain timeout", func(s *State) { s.Services[0].DrainTimeout = -1 }, []string{`service[0].drain_timeout: service "web": drain_timeout is -1ns; it must be 0s to 576h0m0s`}},
		{"timeouts", func(s *State) {
			s.Services[0].Timeouts = Timeouts{time.Millisecond, 600 * time.Hour, -1, 1, 2, 3, 4, 5}
		}, []string{
			`service[0].timeouts.tcp_syn_sent: service "web": timeouts.tcp_syn_sent is 1ms; it must be 1s to 576h0m0s`,
			`service[0].timeouts.tcp_established: service "web": timeouts.tcp_established is 600h0m0s; it must be 1s to 576h0m0s`,
			`service[0].timeouts.tcp_fin_wait: service "web": timeouts.tcp_fin_wait is -1ns; it must be 1s to 576h0m0s`,
			`service[0].timeouts.tcp_close: service "web": timeouts.tcp_close is 1ns; it must be 1s to 576h0m0s`,
			`service[0].timeouts.udp: service "web": timeouts.udp is 2ns; it must be 1s to 576h0m0s`,
			`service[0].timeouts.udp_stream: service "web": timeouts.udp_stream is 3ns; it must be 1s to 576h0m0s`,
			`service[0].timeouts.sctp: service "web": timeouts.sctp is 4ns; it must be 1s to 576h0m0s`,
			`service[0].timeouts.icmp: service "web": timeouts.icmp is 5ns; it must be 1s to 576h0m0s`,
		}},
		{"source ranges", func(s *State) {
			s.Services[0].SourceRanges = []netip.Prefix{
				{}, netip.MustParsePrefix("::ffff:192.0.2.0/120"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("0.0.0.0/0"),
			}
		}, []string{
			`service[0].source_ranges: service "web": a source range is not a prefix`,
			`service[0].source_ranges: service "web": source range ::ffff:192.0.2.0/120 is IPv4-mapped; write it as an IPv4 prefix`,
			`service[0].source_ranges: service "web": source range 2001:db8::/32 is IPv6 and the VIP 198.18.0.10 is IPv4`,
			`service[0].source_ranges: service "web": source range 192.0.2.1/24 has bits set after its prefix; write it as 192.0.2.0/24`,
		}},

		{"nat to another family", func(s *State) { s.Services[1].Method = NAT }, []string{
			`service[1].method: service "dns": method nat cannot carry the IPv6 VIP 2001:db8::10 to the IPv4 backend 198.18.10.1 of pool "mixed"; ipip and gue can`}},
		{"l2 to another family", func(s *State) { s.Services[1].Method = L2 }, []string{
			`service[1].method: service "dns": method l2 cannot carry the IPv6 VIP 2001:db8::10 to the IPv4 backend 198.18.10.1 of pool "mixed"; ipip and gue can`}},
		{"nat to several of another family", func(s *State) {
			s.Pools[1].Backends = append(s.Pools[1].Backends, Backend{Address: ip("198.18.10.2")}, Backend{Address: ip("198.18.10.3")})
			s.Services[1].Method = NAT
		}, []string{
			`service[1].method: service "dns": method nat cannot carry the IPv6 VIP 2001:db8::10 to the IPv4 backend 198.18.10.1 (and 2 more) of pool "mixed"; ipip and gue can`}},
		{"nat without SNAT", func(s *State) { s.SNATs = nil }, []string{
			`service[0].method: service "web": method nat needs an IPv4 SNAT address and there is none`,
			`service[2].method: service "rest": method nat needs an IPv4 SNAT address and there is none`}},
		{"nat without SNAT of the family", func(s *State) { s.Pools[1].Backends = s.Pools[1].Backends[1:]; s.Services[1].Method = NAT }, []string{
			`service[1].method: service "dns": method nat needs an IPv6 SNAT address and there is none`}},
		{"gue without tunnel sources", func(s *State) { s.Tunnel = Tunnel{} }, []string{
			`service[1].method: service "dns": method gue to the IPv4 backends of pool "mixed" needs tunnel.source_ipv4`,
			`service[1].method: service "dns": method gue to the IPv6 backends of pool "mixed" needs tunnel.source_ipv6`}},
		{"ipip without a tunnel source", func(s *State) { s.Tunnel.Source6 = netip.Addr{}; s.Services[1].Method = IPIP }, []string{
			`service[1].method: service "dns": method ipip to the IPv6 backends of pool "mixed" needs tunnel.source_ipv6`}},
		{"l2 with another port", func(s *State) { s.Services[0].Method = L2 }, []string{
			`service[0].method: service "web": method l2 cannot change the port, and the backend 198.18.10.1:8080 (and 1 more) of pool "web" has another port than the service`}},
		{"gue with the port of the service", func(s *State) { s.Services[0].Method = GUE; s.Services[0].Ports = PortRange{8080, 8080} }, nil},
		{"gue with a port of a range", func(s *State) { s.Services[0].Method = GUE; s.Services[0].Ports = PortRange{8080, 8081} }, []string{
			`service[0].method: service "web": method gue cannot change the port, and the backend 198.18.10.1:8080 (and 1 more) of pool "web" has another port than the service`}},
		{"nat of a range to a port", func(s *State) { s.Services[0].Ports = PortRange{80, 81} }, []string{
			`service[0].pool: service "web": a service of several ports keeps the client's port, and the backend 198.18.10.1:8080 (and 1 more) of pool "web" has a port of its own`}},

		{"same port", func(s *State) { s.Services = append(s.Services, s.Services[0]); s.Services[3].Name = "again" }, []string{
			`service[3].port: service "again": 198.18.0.10 tcp port 80 already belongs to service "web"`}},
		{"overlap", func(s *State) {
			s.Services[0].Pool, s.Services[0].Ports = "plain", PortRange{70, 90}
			s.Services = append(s.Services, s.Services[0])
			s.Services[3].Name, s.Services[3].Ports = "again", PortRange{60, 75}
		}, []string{`service[3].port: service "again": 198.18.0.10 tcp ports 70-75 already belong to service "web"`}},
		{"every port twice", func(s *State) { s.Services = append(s.Services, s.Services[2]); s.Services[3].Name = "again" }, []string{
			`service[3].port: service "again": 198.18.0.10 tcp every port already belongs to service "rest"`}},
		{"same port of another protocol", func(s *State) {
			s.Services = append(s.Services, s.Services[0])
			s.Services[3].Name, s.Services[3].Protocol = "again", UDP
		}, nil},
		{"adjacent", func(s *State) {
			s.Services[0].Pool, s.Services[0].Ports = "plain", PortRange{70, 90}
			s.Services = append(s.Services, s.Services[0])
			s.Services[3].Name, s.Services[3].Ports = "again", PortRange{91, 95}
		}, nil},

		{"everything at once, in order", func(s *State) {
			s.Services[1].Pool = "gone"
			s.Services[0].Name = ""
			s.Pools[1].Backends[1].Weight = -1
			s.Pools[0].Name = ""
			s.SNATs[0].Ports = PortRange{5, 4}
			s.VIPs[1].FailAction = "x"
			s.Limits.ReplyRate = -1
			s.Tunnel.Source4 = ip("2001:db8::9")
		}, []string{
			`vip[1].fail_action: VIP 2001:db8::10: fail action "x" is neither drop nor pass`,
			"snat[0].ports: SNAT address 198.18.0.200: the port range 5-4 ends before it begins",
			"tunnel.source_ipv4: tunnel source 2001:db8::9 is not an IPv4 address",
			"limits.reply_rate: reply_rate is -1; it must be 1 to 16777216",
			"pool[0].name: pool name is missing",
			`pool[1].backend[1].weight: pool "mixed": backend [2001:db8::a:1]:53 has weight -1; it must be 0 to 65535`,
			"service[0].name: service name is missing",
			`service[0].pool: service "": there is no pool "web"`,
			`service[1].pool: service "dns": there is no pool "gone"`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			c.harm(s)
			var got []string
			for _, err := range Validate(s) {
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("%v is a %T", err, err)
				}
				got = append(got, err.Error())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("errors are:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestClaimsAgreeWithPairs compares the search for conflicts with a look at
// every pair of services.
func TestClaimsAgreeWithPairs(t *testing.T) {
	// A small generator of its own, so that a failure names its round.
	for round := range 2000 {
		state := uint64(round)*0x9e3779b97f4a7c15 + 1
		next := func(n int) int {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			return int(state % uint64(n))
		}
		s := &State{Pools: []Pool{{Name: "p"}}}
		for i := range next(8) {
			svc := Service{Name: fmt.Sprint(i), VIP: netip.AddrFrom4([4]byte{198, 18, 0, byte(1 + next(2))}), Protocol: []Protocol{TCP, UDP}[next(2)], Pool: "p"}
			if next(4) == 0 {
				svc.Ports = AllPorts
			} else {
				svc.Ports.First = uint16(1 + next(20))
				svc.Ports.Last = svc.Ports.First + uint16(next(6))
			}
			s.Services = append(s.Services, svc)
		}
		conflict := false
		for i, a := range s.Services {
			for _, b := range s.Services[:i] {
				conflict = conflict || a.VIP == b.VIP && a.Protocol == b.Protocol && (a.Ports == AllPorts) == (b.Ports == AllPorts) &&
					a.Ports.First <= b.Ports.Last && b.Ports.First <= a.Ports.Last
			}
		}
		if errs := Validate(s); (len(errs) > 0) != conflict {
			t.Fatalf("round %d: there is a conflict: %v; errors are %v; services are %+v", round, conflict, errs, s.Services)
		}
	}
}

func TestTooManyAddresses(t *testing.T) {
	s := &State{}
	for i := range MaxLocals {
		s.VIPs = append(s.VIPs, VIP{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	s.SNATs = []SNAT{{Address: ip("192.0.2.1")}, {Address: ip("192.0.2.2")}}
	errs := Validate(s)
	if want := "snat[0].address: SNAT address 192.0.2.1 is one too many: a node has at most 65000 addresses"; len(errs) != 1 || errs[0].Error() != want {
		t.Errorf("errors are %v, want %s", errs, want)
	}
	s.SNATs = nil
	if errs := Validate(s); len(errs) != 0 {
		t.Errorf("%d addresses: errors are %v", MaxLocals, errs)
	}
}

// TestDefaultsFillEverything: no field that has a default is zero afterwards,
// what was set stays, and the state itself is as it was.
func TestDefaultsFillEverything(t *testing.T) {
	s := &State{
		VIPs:     []VIP{{}},
		Services: []Service{{Affinity: Affinity{Enabled: true}}, {Method: L2, Gone: GoneDrop, DrainTimeout: time.Minute, Timeouts: Timeouts{UDP: time.Hour}}},
		SNATs:    []SNAT{{}, {Ports: PortRange{5, 6}}},
	}
	before := fmt.Sprintf("%+v", s)
	out := s.WithDefaults()
	if after := fmt.Sprintf("%+v", s); after != before {
		t.Errorf("the state has changed: %s", after)
	}
	limits := reflect.ValueOf(out.Limits)
	for i := range limits.NumField() {
		if limits.Field(i).IsZero() {
			t.Errorf("limit %s has no default", limits.Type().Field(i).Name)
		}
	}
	timeouts := reflect.ValueOf(DefaultTimeouts())
	for i := range timeouts.NumField() {
		if d := timeouts.Field(i).Interface().(time.Duration); d < MinTimeout || d > MaxTimeout {
			t.Errorf("the default of timeout %s is %s", timeouts.Type().Field(i).Name, d)
		}
	}
	want := Service{Method: NAT, Gone: GoneReset, Affinity: Affinity{true, 3 * time.Hour}, DrainTimeout: 5 * time.Minute, Timeouts: DefaultTimeouts()}
	if !reflect.DeepEqual(out.Services[0], want) {
		t.Errorf("service is %+v, want %+v", out.Services[0], want)
	}
	custom := out.Services[1]
	if custom.Method != L2 || custom.Gone != GoneDrop || custom.DrainTimeout != time.Minute || custom.Timeouts.UDP != time.Hour ||
		custom.Timeouts.UDPStream != DefaultTimeouts().UDPStream || custom.Affinity.Timeout != 0 {
		t.Errorf("service is %+v", custom)
	}
	if out.VIPs[0].FailAction != FailDrop || out.SNATs[0].Ports != DefaultSNATPorts || out.SNATs[1].Ports != (PortRange{5, 6}) || out.Tunnel.GUEPort != 6080 || out.Tunnel.TTL != 64 {
		t.Errorf("defaults are %+v", out)
	}
	if d := DefaultVIP(); d.FailAction != FailDrop || !d.AnswerARP || !d.AnswerPing {
		t.Errorf("an unlisted VIP is %+v", d)
	}
	if again := out.WithDefaults(); !reflect.DeepEqual(again, out) {
		t.Errorf("defaults of defaults differ: %+v", again)
	}
	if errs := Validate(&State{Limits: DefaultLimits()}); len(errs) != 0 {
		t.Errorf("the default limits are not valid: %v", errs)
	}
}
