package configs

import (
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// origins are the tables that the objects of a State were read from, at the
// same indexes. Only objects that could be read are in the State, so that what
// the model finds is never the consequence of a value refused before.
type origins struct {
	vips, services, snats, pools []*table
	backends                     [][]*table // by pool
	tunnel, limits               *table
	badTranslation               bool // some [[snat]] or [tunnel] was refused
}

// state reads the desired state and has the model check it.
func (r *reader) state(root *table, c *Config) {
	s := &c.State
	o := &origins{}
	r.vips(root.list("vip", "[[vip]]"), s, o)
	r.snats(root.list("snat", "[[snat]]"), s, o)
	o.tunnel = root.sub("tunnel", "[tunnel]")
	r.tunnel(o.tunnel, &s.Tunnel, o)
	o.limits = root.sub("limits", "[limits]")
	r.limits(o.limits, &s.Limits)
	timeouts := r.timeouts(root.sub("timeouts", "[timeouts]"), model.DefaultTimeouts())
	poolNames := r.pools(root.list("pool", "[[pool]]"), s, o)
	r.services(root.list("service", "[[service]]"), timeouts, poolNames, s, o)
	r.origins = o
	if r.partial && len(r.found) == 0 {
		return
	}
	findings, other := errorsOf(model.Validate(s))
	if r.partial {
		// The file is refused as it is. All that is wrong with it is said at
		// once, but for what other sources may have.
		findings = slices.DeleteFunc(findings, func(e *model.Error) bool {
			return e.Kind == model.KindService && (e.Field == "pool" || e.Field == "method" && r.objects)
		})
	}
	for _, err := range other {
		r.report(0, "%s", err)
	}
	r.place(findings, s, o)
}

// place gives the model's findings their place. One that points to where a
// value was refused already is left out.
func (r *reader) place(findings []*model.Error, s *model.State, o *origins) {
	refused := make(map[int]bool, len(r.found))
	for _, f := range r.found {
		refused[f.offset] = true
	}
	for _, e := range findings {
		if o.badTranslation && e.Kind == model.KindService && e.Field == "method" {
			continue
		}
		at, t := 0, o.table(e)
		if t != nil {
			at = t.valueAt(e.Field)
		}
		if refused[at] || t != nil && r.unknownPool(e, s, t) {
			continue
		}
		r.report(at, "%s", e.Message)
	}
}

// table finds the table that a finding of the model is about.
func (o *origins) table(e *model.Error) *table {
	of := func(list []*table) *table {
		if e.Index < 0 || e.Index >= len(list) {
			return nil
		}
		return list[e.Index]
	}
	switch e.Kind {
	case model.KindVIP:
		return of(o.vips)
	case model.KindSNAT:
		return of(o.snats)
	case model.KindTunnel:
		return o.tunnel
	case model.KindLimits:
		return o.limits
	case model.KindService:
		return of(o.services)
	case model.KindPool:
		if t := of(o.pools); t == nil || e.Sub < 0 || e.Sub >= len(o.backends[e.Index]) {
			return t
		}
		return o.backends[e.Index][e.Sub]
	}
	return nil
}

func (r *reader) vips(list []*table, s *model.State, o *origins) {
	for _, t := range list {
		out := model.DefaultVIP()
		t.require("address")
		out.Address, _ = t.address("address")
		out.FailAction = choice(t, "fail_action", out.FailAction, model.FailDrop, model.FailPass)
		out.AnswerARP = t.flag("arp", out.AnswerARP)
		out.AnswerPing = t.flag("ping", out.AnswerPing)
		r.announce(t, &out.Announce)
		t.finish()
		if out.Address.IsValid() {
			s.VIPs = append(s.VIPs, out)
			o.vips = append(o.vips, t)
		}
	}
}

func (r *reader) snats(list []*table, s *model.State, o *origins) {
	for _, t := range list {
		t.require("address")
		addrs, _ := t.addressSpan("address")
		ports, _ := t.ports("ports", model.DefaultSNATPorts, false)
		t.finish()
		o.badTranslation = o.badTranslation || t.bad
		for _, a := range addrs {
			s.SNATs = append(s.SNATs, model.SNAT{Address: a, Ports: ports})
			o.snats = append(o.snats, t)
		}
	}
}

func (r *reader) tunnel(t *table, out *model.Tunnel, o *origins) {
	out.Source4, _ = t.address("source_ipv4")
	out.Source6, _ = t.address("source_ipv6")
	out.GUEPort = uint16(t.integer("gue_port", int(out.GUEPort), 1, 65535))
	out.TTL = uint8(t.integer("ttl", int(out.TTL), 1, 255))
	t.finish()
	o.badTranslation = o.badTranslation || t.bad
}

func (r *reader) limits(t *table, out *model.Limits) {
	out.FragmentHold = t.integer("fragment_hold", out.FragmentHold, 1, model.MaxFragmentHold)
	out.FragmentHoldTimeout = t.duration("fragment_hold_timeout", out.FragmentHoldTimeout, time.Millisecond, time.Minute, time.Millisecond)
	out.FragmentTimeout = t.duration("fragment_timeout", out.FragmentTimeout, time.Millisecond, time.Hour, time.Millisecond)
	out.ReplyRate = t.integer("reply_rate", out.ReplyRate, 1, model.MaxReplyRate)
	out.ReplyBurst = t.integer("reply_burst", out.ReplyBurst, 1, model.MaxReplyRate)
	t.finish()
}

// timeouts reads a table of idle times over others.
func (r *reader) timeouts(t *table, out model.Timeouts) model.Timeouts {
	read := func(key string, d *time.Duration) {
		*d = t.duration(key, *d, model.MinTimeout, model.MaxTimeout, time.Millisecond)
	}
	read("tcp_syn_sent", &out.TCPSynSent)
	read("tcp_established", &out.TCPEstablished)
	read("tcp_fin_wait", &out.TCPFinWait)
	read("tcp_close", &out.TCPClose)
	read("udp", &out.UDP)
	read("udp_stream", &out.UDPStream)
	read("sctp", &out.SCTP)
	read("icmp", &out.ICMP)
	t.finish()
	return out
}

// pools reads the pools and gives the names of all, readable or not.
func (r *reader) pools(list []*table, s *model.State, o *origins) *names {
	known := &names{}
	for _, t := range list {
		t.require("name")
		pool := model.Pool{Name: t.text("name", "")}
		named := !t.bad
		known.add(pool.Name)
		var tables []*table
		for _, b := range t.list("backend", "[[pool.backend]]") {
			if backend, ok := r.backend(b); ok {
				pool.Backends = append(pool.Backends, backend)
				tables = append(tables, b)
			}
		}
		r.poolHealth(t, &pool)
		t.finish()
		if named {
			s.Pools = append(s.Pools, pool)
			o.pools = append(o.pools, t)
			o.backends = append(o.backends, tables)
		}
	}
	return known
}

func (r *reader) backend(t *table) (b model.Backend, ok bool) {
	t.require("address")
	b.Address, b.Port, ok = t.endpoint("address")
	b.Weight = t.integer("weight", 1, 0, model.MaxWeight)
	b.MTU = t.integer("mtu", 0, minMTU, maxMTU)
	b.Name = t.text("name", "")
	if b.Name == "" && t.data["name"] == "" {
		t.refuse("name", "is empty; leave it out, and the backend is named after its address")
	}
	t.finish()
	return b, ok
}

// names is a set of names in the order they were added.
type names struct {
	list []string
	set  map[string]bool
}

func (n *names) add(name string) {
	if n.set == nil {
		n.set = make(map[string]bool)
	}
	if name != "" && !n.set[name] {
		n.set[name] = true
		n.list = append(n.list, name)
	}
}

func (r *reader) services(list []*table, timeouts model.Timeouts, pools *names, s *model.State, o *origins) {
	s.Services = make([]model.Service, 0, len(list))
	for _, t := range list {
		svc, ok := r.service(t, timeouts, pools)
		if ok {
			s.Services = append(s.Services, svc)
			o.services = append(o.services, t)
		}
	}
	if len(s.Services) == 0 {
		s.Services = nil
	}
}

// service reads one service. ok says that enough of it could be read for the
// model to judge the rest.
func (r *reader) service(t *table, timeouts model.Timeouts, pools *names) (svc model.Service, ok bool) {
	for _, key := range []string{"name", "vip", "protocol", "port", "pool"} {
		t.require(key)
	}
	svc.Name = t.text("name", "")
	svc.VIP, _ = t.address("vip")
	svc.Protocol = choice(t, "protocol", "", model.TCP, model.UDP, model.SCTP)
	svc.Ports, _ = t.ports("port", model.PortRange{}, true)
	svc.Pool = t.text("pool", "")
	svc.Method = choice(t, "method", model.NAT, model.NAT, model.IPIP, model.GUE, model.L2)
	ok = !t.bad

	if svc.Pool != "" && !pools.set[svc.Pool] && !r.partial {
		t.refuse("pool", "no [[pool]] has the name %q%s", svc.Pool, r.suggest(svc.Pool, pools.list, `"%s"`))
	}
	svc.Affinity.Enabled = choice(t, "affinity", "none", "none", "client_ip") == "client_ip"
	timeout := t.duration("affinity_timeout", model.DefaultAffinityTimeout, model.MinTimeout, model.MaxTimeout, time.Millisecond)
	if svc.Affinity.Enabled {
		svc.Affinity.Timeout = timeout
	}
	svc.Gone = choice(t, "on_backend_gone", model.GoneReset, model.GoneReset, model.GoneRehash, model.GoneDrop)
	svc.SourceRanges = t.prefixes("source_ranges")
	svc.DisableMSS = !t.flag("mss_clamp", true)
	svc.DrainTimeout = t.duration("drain_timeout", model.DefaultDrainTimeout, model.MinTimeout, model.MaxTimeout, time.Millisecond)
	svc.Timeouts = r.timeouts(t.sub("timeouts", "[service.timeouts]"), timeouts)
	t.finish()
	return svc, ok
}

// StaticObservations are the facts that the file gives in place of what the
// kernel would say: for a replay, which has no interfaces. Interfaces without
// an MTU have 1,500.
func (c *Config) StaticObservations() *model.Observations {
	obs := &model.Observations{NextHops: make(map[netip.Addr]model.NextHop, len(c.Neighbors))}
	for _, i := range c.Interfaces {
		facts := model.Interface{Name: i.Name, MAC: i.MAC, MTU: i.MTU, Gateway: i.Gateway}
		if facts.MTU == 0 {
			facts.MTU = 1500
		}
		obs.Interfaces = append(obs.Interfaces, facts)
	}
	for _, n := range c.Neighbors {
		obs.NextHops[n.Address] = model.NextHop{Interface: n.Interface, MAC: n.MAC, Resolved: true}
	}
	return obs
}
