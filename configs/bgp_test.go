package configs

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

const bgpBase = "[bgp]\nasn = 65010\nrouter_id = \"198.18.0.1\"\n"

func TestBGP(t *testing.T) {
	c, err := Parse("fairlead.toml", []byte(bgpBase+`
listen = ["198.18.0.1", "2001:db8::1"]
listen_port = 1179
hold_time = "0s"
connect_retry = "3s"
graceful_restart = false
restart_time = "2m"
communities = ["65000:1:2", "no-export", "65535:65281"]
local_preference = 200
med = 5
max_prefixes = 0
withdraw_after = "250ms"
drain_delay = "0s"
drain_wait = "5m"
[[bgp.peer]]
address = "198.18.0.254"
asn = 65000
port = 1179
source = "198.18.0.1"
multihop = 3
password_file = "/etc/fairlead/bgp.password"
passive = true
[[bgp.peer]]
address = "fe80::1%eth0"
asn = 65010
ttl_security = 1
bfd = { enabled = true, interval = "50ms", multiplier = 4 }
[[bgp.peer]]
address = "fe80::2"
interface = "eth1"
asn = "internal"
[[bgp.peer]]
interface = "eth0"
asn = "external"
families = ["ipv6"]
[[bgp.peer]]
address = "2001:db8::fe"
asn = 65000
[[vip]]
address = "198.18.0.10"
bgp = false
communities = ["65000:7"]
local_preference = 300
withdraw = "any"
`))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	both, only4, only6 := []model.BGPFamily{"ipv4", "ipv6"}, []model.BGPFamily{"ipv4"}, []model.BGPFamily{"ipv6"}
	want := model.BGP{
		Enabled: true, ASN: 65010, RouterID: addr("198.18.0.1"), Listen: []netip.Addr{addr("198.18.0.1"), addr("2001:db8::1")}, ListenPort: 1179,
		ConnectRetry: 3 * time.Second, RestartTime: 2 * time.Minute, Communities: "no-export 65000:1:2", LocalPreference: 200, MED: 5,
		WithdrawAfter: 250 * time.Millisecond, DrainWait: 5 * time.Minute,
		Peers: []model.BGPPeer{
			{Address: addr("198.18.0.254"), ASN: 65000, External: true, Port: 1179, Source: addr("198.18.0.1"), Multihop: 3,
				PasswordFile: "/etc/fairlead/bgp.password", Passive: true, Families: only4, BFD: model.DefaultBFD()},
			{Address: addr("fe80::1%eth0"), Interface: "eth0", ASN: 65010, Port: 179, Multihop: 1, TTLSecurity: 1, Families: both,
				BFD: model.BFD{Enabled: true, Interval: 50 * time.Millisecond, Multiplier: 4}},
			{Address: addr("fe80::2%eth1"), Interface: "eth1", Port: 179, Multihop: 1, Families: both, BFD: model.DefaultBFD()},
			{Interface: "eth0", External: true, Port: 179, Multihop: 1, Families: only6, BFD: model.DefaultBFD()},
			{Address: addr("2001:db8::fe"), ASN: 65000, External: true, Port: 179, Multihop: 1, Families: only6, BFD: model.DefaultBFD()},
		},
	}
	if !reflect.DeepEqual(c.BGP, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.BGP, want)
	}
	wantVIP := model.Announce{Communities: "65000:7", LocalPreference: 300, Withdraw: model.WithdrawAny}
	if len(c.State.VIPs) != 1 || c.State.VIPs[0].Announce != wantVIP {
		t.Errorf("the VIP is %+v", c.State.VIPs)
	}
}

func TestBGPErrors(t *testing.T) {
	const peer = "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = 65000\n"
	const names = "graceful-shutdown, accept-own, llgr-stale, no-llgr, blackhole, no-export, no-advertise, no-export-subconfed, no-peer"
	for _, c := range []struct{ name, toml, want string }{
		{"nothing", "[bgp]\n", "1:1: missing key \"asn\" in [bgp]\n1:1: missing key \"router_id\" in [bgp]"},
		{"reserved AS", "[bgp]\nasn = 23456\nrouter_id = \"198.18.0.1\"\n", `2:7: asn: 23456 is reserved (RFC 6793, RFC 7300)`},
		{"AS 0", "[bgp]\nasn = 0\nrouter_id = \"198.18.0.1\"\n", `2:7: asn: 0 is out of range; it must be 1 to 4294967295`},
		{"IPv6 router id", "[bgp]\nasn = 1\nrouter_id = \"2001:db8::1\"\n",
			`3:13: router_id: 2001:db8::1 is no router id: it is written as an IPv4 address, and is not 0.0.0.0`},
		{"listen", bgpBase + "listen = [\"198.18.0.1\", \"x\", \"224.0.0.1\", \"198.18.0.1\"]\n",
			"4:25: listen: \"x\" is not an IP address\n4:30: listen: 224.0.0.1 is not an address of this node\n4:43: listen: 198.18.0.1 is listed twice"},
		{"hold time", bgpBase + "hold_time = \"2s\"\n", `4:13: hold_time: 2s is too short; it must be at least 3s, or 0s for sessions that are held for ever`},
		{"hold time in parts", bgpBase + "hold_time = \"3500ms\"\n", `4:13: hold_time: 3500ms is not a whole number of seconds`},
		{"restart time", bgpBase + "restart_time = \"2h\"\n", `4:16: restart_time: 2h is out of range; it must be 1s to 1h8m15s`},
		{"community", bgpBase + "communities = [\"1:2\", \"none\"]\n",
			`4:23: communities: "none" is no community: write "65000:100", "65000:1:2", or one of the names ` + names},
		{"communities", bgpBase + "communities = \"1:2\"\n", `4:15: communities: expected an array of strings, found a string`},
		{"no AS", bgpBase + "[[bgp.peer]]\naddress = \"198.18.0.254\"\n", `4:1: missing key "asn" in [[bgp.peer]]`},
		{"no address", bgpBase + "[[bgp.peer]]\nasn = 1\n", `4:1: a peer needs an address, or an interface that it is found on`},
		{"AS word", bgpBase + "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = \"extrenal\"\n",
			`6:7: asn: "extrenal" is none of "external", "internal" (did you mean "external"?)`},
		{"AS type", bgpBase + "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = 1.1\n",
			`6:7: asn: expected an AS number, "external" or "internal", found a floating-point number`},
		{"peer twice", bgpBase + peer + peer, `7:1: peer 198.18.0.254 is listed twice`},
		{"no router", bgpBase + "[[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 1\n", `5:11: address: 127.0.0.1 is not the address of a router`},
		{"link-local, where", bgpBase + "[[bgp.peer]]\naddress = \"fe80::1\"\nasn = 1\n",
			`5:11: address: "fe80::1" is link-local; name its interface, or write it as "fe80::1%eth0"`},
		{"zone of a global", bgpBase + "[[bgp.peer]]\naddress = \"2001:db8::1%eth0\"\nasn = 1\n",
			`5:11: address: "2001:db8::1%eth0": only a link-local address has a zone, which is the name of an interface`},
		{"two interfaces", bgpBase + "[[bgp.peer]]\naddress = \"fe80::1%eth0\"\ninterface = \"eth1\"\nasn = 1\n",
			`5:11: address: "fe80::1%eth0" is on eth0, and interface says eth1`},
		{"source", bgpBase + peer + "source = \"2001:db8::1\"\n", `7:10: source: 2001:db8::1 is not of the peer's family`},
		{"two bounds of hops", bgpBase + peer + "multihop = 2\nttl_security = 1\n", `8:16: ttl_security: it bounds the hops from the peer by itself; leave multihop out`},
		{"link-local, far", bgpBase + "[[bgp.peer]]\ninterface = \"eth0\"\nasn = 1\nmultihop = 2\n", `7:12: multihop: a peer with a link-local address is beside us`},
		{"password file", bgpBase + peer + "password_file = \"secret\"\n", `7:17: password_file: "secret" is not an absolute path`},
		{"family", bgpBase + peer + "families = [\"ipv5\"]\n", `7:13: families: "ipv5" is none of "ipv4", "ipv6"`},
		{"family twice", bgpBase + peer + "families = [\"ipv4\", \"ipv4\"]\n", `7:21: families: ipv4 is listed twice`},
		{"IPv6 over IPv4", bgpBase + peer + "families = [\"ipv4\", \"ipv6\"]\n",
			`7:21: families: IPv6 routes need an IPv6 next hop, which a session over IPv4 does not give; make the session over IPv6, which can carry IPv4 routes too`},
		{"no family", bgpBase + peer + "families = []\n", `7:12: families: is empty: nothing would be announced`},
		{"BFD far away", bgpBase + peer + "multihop = 2\nbfd = { enabled = true }\n",
			`8:19: enabled: BFD is with routers beside us (RFC 5881); this one is up to 2 hops away`},
		{"BFD multiplier", bgpBase + peer + "bfd = { multiplier = 1 }\n", `7:22: multiplier: 1 is out of range; it must be 2 to 50`},
		{"BFD key", bgpBase + peer + "bfd = { enable = true }\n", `7:9: unknown key "enable" in [bgp.peer.bfd] (did you mean "enabled"?)`},
		{"withdraw", "[[vip]]\naddress = \"198.18.0.10\"\nwithdraw = \"some\"\n", `3:12: withdraw: "some" is none of "all", "any", "never"`},
		{"local preference", "[[vip]]\naddress = \"198.18.0.10\"\nlocal_preference = 0\n",
			`3:20: local_preference: 0 is out of range; it must be 1 to 4294967295`},
		{"a list", "[[bgp]]\nasn = 1\n", `1:3: bgp: is given once, as [bgp], and is no list`},
	} {
		expectErrors(t, c.name, c.toml, c.want)
	}
}

// renderAnnounce writes out how a VIP is announced.
func renderAnnounce(a *model.Announce, line func(format string, args ...any)) {
	line("bgp = %t\nwithdraw = %q\ncommunities = %s", a.BGP, a.Withdraw, renderCommunities(a.Communities))
	if a.LocalPreference != 0 {
		line("local_preference = %d", a.LocalPreference)
	}
}

func renderCommunities(c model.Communities) string {
	words := strings.Fields(string(c))
	if len(words) == 0 {
		return "[]"
	}
	return `["` + strings.Join(words, `", "`) + `"]`
}

// renderBGP writes [bgp] out.
func renderBGP(b *model.BGP, line func(format string, args ...any), quote func(string) string) {
	if !b.Enabled {
		return
	}
	line("[bgp]\nasn = %d\nrouter_id = %q\nlisten_port = %d\nhold_time = %q\nconnect_retry = %q\ngraceful_restart = %t\nrestart_time = %q",
		b.ASN, b.RouterID, b.ListenPort, b.HoldTime, b.ConnectRetry, b.GracefulRestart, b.RestartTime)
	line("communities = %s\nmed = %d\nmax_prefixes = %d\nwithdraw_after = %q\ndrain_delay = %q\ndrain_wait = %q",
		renderCommunities(b.Communities), b.MED, b.MaxPrefixes, b.WithdrawAfter, b.DrainDelay, b.DrainWait)
	if b.LocalPreference != 0 {
		line("local_preference = %d", b.LocalPreference)
	}
	var listen []string
	for _, a := range b.Listen {
		listen = append(listen, `"`+a.String()+`"`)
	}
	line("listen = [%s]", strings.Join(listen, ", "))
	for i := range b.Peers {
		renderPeer(b, &b.Peers[i], line, quote)
	}
}

func renderPeer(b *model.BGP, p *model.BGPPeer, line func(format string, args ...any), quote func(string) string) {
	line("[[bgp.peer]]\nport = %d\nmultihop = %d\nttl_security = %d\npassive = %t\npassword_file = %s",
		p.Port, p.Multihop, p.TTLSecurity, p.Passive, quote(p.PasswordFile))
	if !p.Unnumbered() {
		line("address = %s", quote(p.Address.String()))
	}
	if p.Interface != "" {
		line("interface = %s", quote(p.Interface))
	}
	if p.Source.IsValid() {
		line("source = %q", p.Source)
	}
	switch {
	case p.ASN != 0:
		line("asn = %d", p.ASN)
	case p.External:
		line(`asn = "external"`)
	default:
		line(`asn = "internal"`)
	}
	var families []string
	for _, f := range p.Families {
		families = append(families, `"`+string(f)+`"`)
	}
	line("families = [%s]", strings.Join(families, ", "))
	line("bfd = { enabled = %t, interval = %q, multiplier = %d }", p.BFD.Enabled, p.BFD.Interval, p.BFD.Multiplier)
}
