package configs

import (
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// Limits of [bgp].
const (
	maxHoldTime    = 65535 * time.Second // 16 bits of the OPEN message
	minHoldTime    = 3 * time.Second     // RFC 4271, section 4.2; 0 is allowed too
	maxRestartTime = 4095 * time.Second  // 12 bits of the capability
	maxCommunities = 64
	maxPeers       = 256
	maxASN         = 1<<32 - 1
)

// announce reads how one VIP is announced.
func (r *reader) announce(t *table, out *model.Announce) {
	out.BGP = t.flag("bgp", out.BGP)
	out.Communities = t.communities("communities")
	out.LocalPreference = uint32(t.integer("local_preference", 0, 1, 1<<32-1))
	out.Withdraw = choice(t, "withdraw", out.Withdraw, model.WithdrawAll, model.WithdrawAny, model.WithdrawNever)
}

func (r *reader) bgp(root *table, out *model.BGP) {
	_, out.Enabled = root.data["bgp"]
	t := root.sub("bgp", "[bgp]")
	if t.data == nil {
		out.Enabled = false
		return
	}
	for _, key := range []string{"asn", "router_id"} {
		t.require(key)
	}
	out.ASN = uint32(t.integer("asn", 0, 1, maxASN))
	switch out.ASN {
	case 23456, 65535, maxASN:
		t.refuse("asn", "%d is reserved (RFC 6793, RFC 7300)", out.ASN)
	}
	var ok bool
	if out.RouterID, ok = t.address("router_id"); ok && (!out.RouterID.Is4() || out.RouterID.IsUnspecified()) {
		t.refuse("router_id", "%s is no router id: it is written as an IPv4 address, and is not 0.0.0.0", out.RouterID)
	}
	out.Listen = t.addresses("listen")
	out.ListenPort = t.integer("listen_port", out.ListenPort, 1, 65535)
	out.HoldTime = t.duration("hold_time", out.HoldTime, 0, maxHoldTime, time.Second)
	if out.HoldTime > 0 && out.HoldTime < minHoldTime {
		t.refuse("hold_time", "%s is too short; it must be at least %s, or 0s for sessions that are held for ever", out.HoldTime, minHoldTime)
	}
	out.ConnectRetry = t.duration("connect_retry", out.ConnectRetry, 2*time.Second, time.Hour, time.Second)
	out.GracefulRestart = t.flag("graceful_restart", out.GracefulRestart)
	out.RestartTime = t.duration("restart_time", out.RestartTime, time.Second, maxRestartTime, time.Second)
	out.Communities = t.communities("communities")
	out.LocalPreference = uint32(t.integer("local_preference", 0, 1, 1<<32-1))
	out.MED = uint32(t.integer("med", 0, 0, 1<<32-1))
	out.MaxPrefixes = t.integer("max_prefixes", out.MaxPrefixes, 0, 10_000_000)
	out.WithdrawAfter = t.duration("withdraw_after", out.WithdrawAfter, 0, time.Hour, time.Millisecond)
	out.DrainDelay = t.duration("drain_delay", out.DrainDelay, 0, time.Hour, time.Millisecond)
	out.DrainWait = t.duration("drain_wait", out.DrainWait, 0, 24*time.Hour, time.Millisecond)
	for i, p := range t.list("peer", "[[bgp.peer]]") {
		peer := r.bgpPeer(p, out)
		switch same := func(have model.BGPPeer) bool { return have.Name() == peer.Name() }; {
		case i == maxPeers:
			r.report(p.position(), "peer %s is one too many; there may be %d", peer.Name(), maxPeers)
		case !p.bad && slices.ContainsFunc(out.Peers, same):
			r.report(p.position(), "peer %s is listed twice", peer.Name())
		}
		out.Peers = append(out.Peers, peer)
	}
	t.finish()
}

func (r *reader) bgpPeer(t *table, b *model.BGP) model.BGPPeer {
	p := model.BGPPeer{BFD: model.DefaultBFD()}
	t.require("asn")
	r.bgpEnds(t, &p)
	r.bgpASN(t, b, &p)
	p.Port = t.integer("port", 179, 1, 65535)
	p.Multihop = t.integer("multihop", 1, 1, 255)
	p.TTLSecurity = t.integer("ttl_security", 0, 0, 254)
	switch {
	case p.Multihop > 1 && p.TTLSecurity > 0:
		t.refuse("ttl_security", "it bounds the hops from the peer by itself; leave multihop out")
	case p.Multihop > 1 && (p.Unnumbered() || p.Address.IsLinkLocalUnicast()):
		t.refuse("multihop", "a peer with a link-local address is beside us")
	}
	p.PasswordFile = t.text("password_file", "")
	if p.PasswordFile != "" && (!path.IsAbs(p.PasswordFile) || strings.ContainsRune(p.PasswordFile, 0)) {
		t.refuse("password_file", "%q is not an absolute path", p.PasswordFile)
	}
	p.Passive = t.flag("passive", false)
	p.Families = r.bgpFamilies(t, &p)
	r.bfd(t.sub("bfd", "[bgp.peer.bfd]"), &p)
	t.finish()
	return p
}

// bgpEnds reads where the session is: the peer's address, its interface, and
// our own address.
func (r *reader) bgpEnds(t *table, p *model.BGPPeer) {
	text := t.text("address", "")
	_, there := t.data["address"]
	p.Interface = t.text("interface", "")
	if _, named := t.data["interface"].(string); named {
		if wrong := badInterfaceName(p.Interface); wrong != "" {
			t.refuse("interface", "%q is no name of an interface: %s", p.Interface, wrong)
		}
	}
	if there && !t.bad {
		p.Address = t.peerAddress(text, p)
	}
	if !there && p.Interface == "" && !t.bad {
		t.bad = true
		r.report(t.position(), `a peer needs an address, or an interface that it is found on`)
	}
	var ok bool
	if p.Source, ok = t.hostAddress("source"); ok && !t.bad && p.Source.Is4() != p.Address.Is4() {
		t.refuse("source", "%s is not of the peer's family", p.Source)
	}
}

// peerAddress reads the address of a peer; a link-local one gets its interface
// as zone.
func (t *table) peerAddress(text string, p *model.BGPPeer) netip.Addr {
	plain, zone, zoned := strings.Cut(text, "%")
	a, wrong := parseAddress(plain)
	switch {
	case wrong != "":
		t.refuse("address", "%s", wrong)
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		t.refuse("address", "%s is not the address of a router", a)
	case zoned && (zone == "" || !a.Is6() || !a.IsLinkLocalUnicast()):
		t.refuse("address", "%q: only a link-local address has a zone, which is the name of an interface", text)
	case zoned && p.Interface != "" && p.Interface != zone:
		t.refuse("address", "%q is on %s, and interface says %s", text, zone, p.Interface)
	case zoned:
		p.Interface = zone
		return a.WithZone(zone)
	case a.Is6() && a.IsLinkLocalUnicast() && p.Interface == "":
		t.refuse("address", `%q is link-local; name its interface, or write it as "%s%%eth0"`, text, a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return a.WithZone(p.Interface)
	default:
		return a
	}
	return netip.Addr{}
}

// bgpASN reads a peer's AS number, or which side of ours it is on.
func (r *reader) bgpASN(t *table, b *model.BGP, p *model.BGPPeer) {
	if _, is := t.data["asn"].(string); is {
		p.External = choice(t, "asn", "", "external", "internal") == "external"
		return
	}
	if v, there := t.data["asn"]; there {
		if _, ok := v.(int64); !ok {
			t.get("asn")
			t.refuse("asn", `expected an AS number, "external" or "internal", found %s`, kind(v))
			return
		}
	}
	p.ASN = uint32(t.integer("asn", 0, 1, maxASN))
	p.External = p.ASN != b.ASN
}

// bgpFamilies reads what is announced to a peer.
func (r *reader) bgpFamilies(t *table, p *model.BGPPeer) []model.BGPFamily {
	fallback := []model.BGPFamily{model.IPv4Unicast}
	switch {
	case p.Unnumbered() || p.Address.IsLinkLocalUnicast():
		fallback = append(fallback, model.IPv6Unicast)
	case p.Address.Is6():
		fallback = []model.BGPFamily{model.IPv6Unicast}
	}
	words := t.words("families")
	if words == nil {
		return fallback
	}
	var out []model.BGPFamily
	for i, w := range words {
		switch f := model.BGPFamily(w); {
		case f != model.IPv4Unicast && f != model.IPv6Unicast:
			t.refuseElement("families", i, `%q is none of "ipv4", "ipv6"`, w)
		case slices.Contains(out, f):
			t.refuseElement("families", i, "%s is listed twice", w)
		case f == model.IPv6Unicast && p.Address.Is4():
			t.refuseElement("families", i, "IPv6 routes need an IPv6 next hop, which a session over IPv4 does not give; make the session over IPv6, which can carry IPv4 routes too")
		default:
			out = append(out, f)
		}
	}
	if len(words) == 0 {
		t.refuse("families", "is empty: nothing would be announced")
	}
	return out
}

func (r *reader) bfd(t *table, p *model.BGPPeer) {
	b := &p.BFD
	b.Enabled = t.flag("enabled", false)
	b.Interval = t.duration("interval", b.Interval, 10*time.Millisecond, time.Minute, time.Millisecond)
	b.Multiplier = t.integer("multiplier", b.Multiplier, 2, 50)
	if b.Enabled && p.Multihop > 1 {
		t.refuse("enabled", "BFD is with routers beside us (RFC 5881); this one is up to %d hops away", p.Multihop)
	}
	t.finish()
}

// words reads an array of strings; nil when it is not there or something is
// wrong with it.
func (t *table) words(key string) []string {
	v, there := t.get(key)
	if !there {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.refuse(key, "expected an array of strings, found %s", kind(v))
		return nil
	}
	out := make([]string, 0, len(list))
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			t.refuseElement(key, i, "expected a string, found %s", kind(e))
			return nil
		}
		out = append(out, s)
	}
	return out
}

// communities reads an array of BGP communities.
func (t *table) communities(key string) model.Communities {
	words := t.words(key)
	if len(words) > maxCommunities {
		t.refuse(key, "%d communities are too many; there may be %d", len(words), maxCommunities)
		return ""
	}
	var all []model.Community
	for i, w := range words {
		c, err := model.ParseCommunity(w)
		if err != nil {
			t.refuseElement(key, i, "%s", err)
			continue
		}
		all = append(all, c)
	}
	return model.NewCommunities(all...)
}

// addresses reads an array of our own addresses.
func (t *table) addresses(key string) []netip.Addr {
	var out []netip.Addr
	for i, w := range t.words(key) {
		a, wrong := parseAddress(w)
		switch {
		case wrong != "":
			t.refuseElement(key, i, "%s", wrong)
		case a.IsMulticast():
			t.refuseElement(key, i, "%s is not an address of this node", a)
		case slices.Contains(out, a):
			t.refuseElement(key, i, "%s is listed twice", a)
		default:
			out = append(out, a)
		}
	}
	return out
}
