package migrate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// planLayer2 says what becomes of advertisements by ARP and neighbour discovery.
func (in *Input) planLayer2(p *Plan) {
	for _, o := range sortedBy(in.l2, func(o *object[l2Spec]) string { return o.Name }) {
		subject := "L2Advertisement " + o.Name
		if len(o.Spec.Interfaces) > 0 {
			p.note(subject, "interfaces", "a node announces on the interfaces of its [[interface]] tables: %s", strings.Join(o.Spec.Interfaces, ", "))
		}
		in.planSelection(p, subject, &o.Spec.selection)
		if names, all := in.poolsOf(&o.Spec.selection); !all {
			p.note(subject, "ipAddressPools", "every VIP is answered for on the segments that it is on, not those of %s alone; for others say arp = false in a [[vip]]", strings.Join(names, ", "))
		}
	}
	if len(in.l2) == 0 && len(in.pools) > 0 {
		p.note("", "", "there is no L2Advertisement: for VIPs that are on a segment of a node and are not to be answered for there, say arp = false in a [[vip]]")
	}
}

// planSelection says of what an advertisement is about what has no counterpart.
func (in *Input) planSelection(p *Plan, subject string, s *selection) {
	if len(s.NodeSelectors) > 0 {
		p.note(subject, "nodeSelectors", "which nodes announce is which nodes run Fairlead")
	}
	if len(s.ServiceSelectors) > 0 {
		p.note(subject, "serviceSelectors", "all Services are announced alike")
	}
}

func (in *Input) planBGP(p *Plan, config *strings.Builder) {
	if len(in.peers) == 0 {
		for _, o := range in.bgp {
			p.note("BGPAdvertisement "+o.Name, "", "there is no BGPPeer, so it says nothing")
		}
		return
	}
	peers := sortedBy(in.peers, func(o *object[peerSpec]) string { return o.Name })
	if config.Len() > 0 {
		fmt.Fprintln(config)
	}
	fmt.Fprintf(config, "[bgp]\nasn = %d\n", peers[0].Spec.MyASN)
	id := "192.0.2.1"
	if i := slices.IndexFunc(peers, func(o object[peerSpec]) bool { return o.Spec.RouterID != "" }); i >= 0 {
		id = peers[i].Spec.RouterID
	}
	fmt.Fprintf(config, "router_id = %s # another one on each node\n", quote(id))
	p.note("", "", "router_id of [bgp] is to be set on each node, such as to its address")
	common(p, config, peers, "hold_time", "holdTime", func(s *peerSpec) *metav1.Duration { return s.HoldTime }, 0)
	common(p, config, peers, "connect_retry", "connectTime", func(s *peerSpec) *metav1.Duration { return s.ConnectTime }, 2*time.Second)
	restart := slices.ContainsFunc(peers, func(o object[peerSpec]) bool { return o.Spec.EnableGracefulRestart })
	if !restart {
		fmt.Fprintln(config, "graceful_restart = false")
	}
	in.planAdvertisements(p, config)
	for i := range peers {
		in.planPeer(p, config, &peers[i], &peers[0], restart)
	}
}

// common writes a setting that all of our peers have the same.
func common(p *Plan, config *strings.Builder, peers []object[peerSpec], key, field string, of func(*peerSpec) *metav1.Duration, least time.Duration) {
	var one *metav1.Duration
	for i := range peers {
		d := of(&peers[i].Spec)
		switch {
		case d == nil:
		case one == nil:
			one = d
		case one.Duration != d.Duration:
			p.note("BGPPeer "+peers[i].Name, field, "%s is one for all peers; %s holds", key, one.Duration)
		}
	}
	if one != nil {
		fmt.Fprintf(config, "%s = %s\n", key, quote(max(one.Duration, least).String()))
	}
}

// planAdvertisements says with what routes are announced. What all advertisements
// have the same is for all routes; else it is left to whoever migrates.
func (in *Input) planAdvertisements(p *Plan, config *strings.Builder) {
	list := sortedBy(in.bgp, func(o *object[bgpSpec]) string { return o.Name })
	names := map[string]string{}
	for _, o := range in.communities {
		for _, c := range o.Spec.Communities {
			names[c.Name] = c.Value
		}
	}
	resolve := func(o *object[bgpSpec]) (out []string) {
		for _, c := range o.Spec.Communities {
			if value, known := names[c]; known {
				c = value
			}
			out = append(out, quote(strings.TrimPrefix(c, "large:")))
		}
		slices.Sort(out)
		return out
	}
	same, covered := true, map[string]bool{}
	for i := range list {
		o := &list[i]
		subject := "BGPAdvertisement " + o.Name
		same = same && slices.Equal(resolve(o), resolve(&list[0])) && o.Spec.LocalPref == list[0].Spec.LocalPref
		pools, _ := in.poolsOf(&o.Spec.selection)
		for _, name := range pools {
			covered[name] = true
		}
		in.planSelection(p, subject, &o.Spec.selection)
		if n := o.Spec.AggregationLength; n != nil && *n != 32 {
			p.note(subject, "aggregationLength", "VIPs are announced as /32; aggregate on the routers")
		}
		if n := o.Spec.AggregationLengthV6; n != nil && *n != 128 {
			p.note(subject, "aggregationLengthV6", "VIPs are announced as /128; aggregate on the routers")
		}
		if len(o.Spec.Peers) > 0 {
			p.note(subject, "peers", "all peers are told of all VIPs, not %s alone", strings.Join(o.Spec.Peers, ", "))
		}
	}
	var missing []string
	for i := range in.pools {
		if !covered[in.pools[i].Name] {
			missing = append(missing, in.pools[i].Name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		p.note("IPAddressPool "+strings.Join(missing, ", "), "", "no BGPAdvertisement is about it: for each of its VIPs that is not to be announced say bgp = false in a [[vip]]")
	}
	if len(list) == 0 {
		return
	}
	if same {
		if c := resolve(&list[0]); len(c) > 0 {
			fmt.Fprintf(config, "communities = [%s]\n", strings.Join(c, ", "))
		}
		if n := list[0].Spec.LocalPref; n > 0 {
			fmt.Fprintf(config, "local_preference = %d\n", n)
		}
		return
	}
	for i := range list {
		o := &list[i]
		pools, _ := in.poolsOf(&o.Spec.selection)
		p.note("BGPAdvertisement "+o.Name, "", "communities [%s] and local preference %d are for VIPs of %s: write them into a [[vip]] for each", strings.Join(resolve(o), ", "), o.Spec.LocalPref, strings.Join(pools, ", "))
	}
}

func (in *Input) planPeer(p *Plan, config *strings.Builder, o, first *object[peerSpec], restart bool) {
	s, subject := &o.Spec, "BGPPeer "+o.Name
	if s.MyASN != first.Spec.MyASN {
		p.note(subject, "myASN", "a node has one AS number, and %d of %s holds", first.Spec.MyASN, first.Name)
	}
	if s.VRF != "" {
		p.note(subject, "vrf", "sessions are in the default VRF")
	}
	if len(s.NodeSelectors) > 0 {
		p.note(subject, "nodeSelectors", "a peer is for the nodes whose file has it")
	}
	if s.KeepaliveTime != nil {
		p.note(subject, "keepaliveTime", "a third of hold_time passes between keepalives")
	}
	if restart && !s.EnableGracefulRestart {
		p.note(subject, "enableGracefulRestart", "graceful restart is one setting for all peers, and is on")
	}
	if s.RouterID != "" && s.RouterID != first.Spec.RouterID {
		p.note(subject, "routerID", "a node has one router_id")
	}
	fmt.Fprintf(config, "\n[[bgp.peer]] # %s\n", strings.ReplaceAll(o.Name, "\n", " "))
	if s.Address != "" {
		fmt.Fprintf(config, "address = %s\n", quote(s.Address))
	}
	if s.Interface != "" {
		fmt.Fprintf(config, "interface = %s\n", quote(s.Interface))
	}
	if s.DynamicASN != "" {
		fmt.Fprintf(config, "asn = %s\n", quote(s.DynamicASN))
	} else {
		fmt.Fprintf(config, "asn = %d\n", s.ASN)
	}
	if s.Port != 0 && s.Port != 179 {
		fmt.Fprintf(config, "port = %d\n", s.Port)
	}
	if s.SourceAddress != "" {
		fmt.Fprintf(config, "source = %s\n", quote(s.SourceAddress))
		p.note(subject, "sourceAddress", "is an address of one node")
	}
	if s.EBGPMultiHop {
		fmt.Fprintln(config, "multihop = 255")
		p.note(subject, "ebgpMultiHop", "multihop is how many hops away the router may be: take the least that is enough")
	}
	if s.Password != "" || s.PasswordSecret.Name != "" {
		file := "/etc/fairlead/bgp-" + o.Name + ".password"
		fmt.Fprintf(config, "password_file = %s\n", quote(file))
		p.note(subject, cmp.Or(map[bool]string{true: "password"}[s.Password != ""], "passwordSecret"), "write the password into %s on each node, readable by its owner alone", file)
	}
	if families := in.families(s); families != "" {
		fmt.Fprintf(config, "families = %s\n", families)
	}
	in.planBFD(p, config, s, subject)
}

// families are those of a session that carries both.
func (in *Input) families(s *peerSpec) string {
	a, err := netip.ParseAddr(s.Address)
	if s.DisableMP || !s.DualStackAddressFamily || err != nil || a.Is4() {
		return ""
	}
	return `["ipv4", "ipv6"]`
}

func (in *Input) planBFD(p *Plan, config *strings.Builder, s *peerSpec, subject string) {
	if a, err := netip.ParseAddr(s.Address); s.DualStackAddressFamily && err == nil && a.Is4() {
		p.note(subject, "dualStackAddressFamily", "IPv6 routes need a session over IPv6: make one")
	}
	if s.BFDProfile == "" {
		return
	}
	i := slices.IndexFunc(in.bfd, func(o object[bfdSpec]) bool { return o.Name == s.BFDProfile })
	if i < 0 {
		p.note(subject, "bfdProfile", "there is no BFDProfile %s", s.BFDProfile)
		return
	}
	if s.EBGPMultiHop {
		p.note(subject, "bfdProfile", "BFD is with routers beside the node alone (RFC 5881); leave multihop out to have it")
		return
	}
	b, profile := &in.bfd[i].Spec, "BFDProfile "+s.BFDProfile
	value := func(n *int, fallback int) int {
		if n == nil {
			return fallback
		}
		return *n
	}
	receive, transmit, multiplier := value(b.ReceiveInterval, 300), value(b.TransmitInterval, 300), value(b.DetectMultiplier, 3)
	if receive != transmit {
		p.note(profile, "receiveInterval", "one interval is for both ways; the longer one holds")
	}
	if multiplier > 50 {
		p.note(profile, "detectMultiplier", "%d is more than 50", multiplier)
		multiplier = 50
	}
	for _, odd := range []struct {
		field string
		set   bool
	}{{"echoMode", b.EchoMode}, {"passiveMode", b.PassiveMode}, {"minimumTtl", b.MinimumTTL != nil}} {
		note := Note{profile, odd.field, "has no counterpart"}
		if odd.set && !slices.Contains(p.Notes, note) {
			p.Notes = append(p.Notes, note)
		}
	}
	fmt.Fprintf(config, "[bgp.peer.bfd]\nenabled = true\ninterval = %s\nmultiplier = %d\n", quote(fmt.Sprintf("%dms", max(receive, transmit))), multiplier)
}
