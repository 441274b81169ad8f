package configs

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"fairlead/controlplane/model"
)

// render writes a configuration out in full. It is the inverse of Parse.
func render(c *Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	optional := func(key string, set bool, value string) {
		if set {
			line("%s = %s", key, value)
		}
	}
	quote := func(s string) string { // a TOML basic string
		var q strings.Builder
		for _, r := range s {
			if r < ' ' || r == '"' || r == '\\' || r == 0x7f {
				fmt.Fprintf(&q, `\u%04x`, r)
			} else {
				q.WriteRune(r)
			}
		}
		return `"` + q.String() + `"`
	}
	queues := func(n int) string {
		if n == 0 {
			return `"auto"`
		}
		return fmt.Sprint(n)
	}
	ports := func(r model.PortRange) string {
		if r == model.AllPorts {
			return "0"
		}
		return fmt.Sprintf(`"%d-%d"`, r.First, r.Last)
	}
	mac := func(m [6]byte) string {
		return fmt.Sprintf(`"%x:%x:%x:%x:%x:%x"`, m[0:1], m[1:2], m[2:3], m[3:4], m[4:5], m[5:6])
	}

	line("[node]")
	optional("name", c.Node.Name != "", quote(c.Node.Name))
	line("hash_seed = \"%016x%016x\"", c.State.HashSeed[0], c.State.HashSeed[1])
	line("log_level = %q", strings.ToLower(c.Node.LogLevel.String()))
	line("log_format = %q\nlog_rate = %d\nlog_burst = %d", c.Node.LogFormat, c.Node.LogRate, c.Node.LogBurst)
	d := &c.Dataplane
	line("[dataplane]\nring_size = %d\nframes = %d\nframe_size = %d\nheadroom = %d\nflow_table_size = %d\nflow_memo = %q\nflow_memo_size = %s", d.RingSize, d.Frames, d.FrameSize, d.Headroom, d.FlowTableSize, d.FlowMemo, queues(d.FlowMemoSize))
	line("queues = %s\ncpus = %s\nbusy_poll = %q\nbusy_poll_budget = %d", queues(d.Queues), strings.ReplaceAll(fmt.Sprint(d.CPUs), " ", ", "), d.BusyPoll, d.BusyPollBudget)
	line("huge_pages = %t\nspin = %q\nuser = %s", d.HugePages, d.Spin, quote(d.User))
	line("[xdp]\npin_path = %s", quote(c.XDP.PinPath))
	a := &c.API
	texts := func(list []string) string {
		var quoted []string
		for _, text := range list {
			quoted = append(quoted, quote(text))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	line("[api]\nsocket = %s\ngroup = %s\noperators = %s\nreaders = %s", quote(a.Socket), quote(a.Group), texts(a.Operators), texts(a.Readers))
	line("listen = %s\ntls_cert = %s\ntls_key = %s\nclient_ca = %s", quote(a.Listen), quote(a.TLSCert), quote(a.TLSKey), quote(a.ClientCA))
	line("tls_operators = %s\ntls_readers = %s", texts(a.TLSOperators), texts(a.TLSReaders))
	line("[state]\ndirectory = %s\nremoval_guard = %d", quote(c.Store.Directory), c.Store.RemovalGuard)
	arp := &c.ARP
	line("[arp]\nannounce = %t\ninterfaces = %q\nrepeat = %d\nrepeat_interval = %q\nrefresh = %q\nrate = %d\ndetect_conflicts = %t",
		arp.Announce, arp.Interfaces, arp.Repeat, arp.RepeatInterval, arp.Refresh, arp.Rate, arp.DetectConflicts)
	m := &c.Metrics
	line("[metrics]\nlisten = %s\ntls_cert = %s\ntls_key = %s\nbackends = %t\nbackend_limit = %d", quote(m.Listen), quote(m.TLSCert), quote(m.TLSKey), m.Backends, m.BackendLimit)
	line("[lifecycle]\nstandby = %t\nstuck_after = %q\norphan_limit = %q", c.Lifecycle.Standby, c.Lifecycle.StuckAfter, c.Lifecycle.OrphanLimit)
	renderCluster(&c.Cluster, line, quote)
	renderKubernetes(&c.Kubernetes, line, quote, texts)
	for _, i := range c.Interfaces {
		line("[[interface]]\nname = %s\nqueues = %s\nxdp_mode = %q\nzero_copy = %q\nxdp_tx = %q\nneed_wakeup = %t", quote(i.Name), queues(i.Queues), i.XDPMode, i.ZeroCopy, i.XDPTX, i.NeedWakeup)
		optional("mac", i.MAC != [6]byte{}, mac(i.MAC))
		optional("mtu", i.MTU != 0, fmt.Sprint(i.MTU))
		optional("gateway", i.Gateway.IsValid(), quote(i.Gateway.String()))
	}
	for _, n := range c.Neighbors {
		line("[[neighbor]]\naddress = %q\nmac = %s\ninterface = %s", n.Address, mac(n.MAC), quote(n.Interface))
	}
	s := &c.State
	for _, a := range s.SNATs {
		line("[[snat]]\naddress = %q\nports = %s", a.Address, ports(a.Ports))
	}
	line("[tunnel]\ngue_port = %d\nttl = %d", s.Tunnel.GUEPort, s.Tunnel.TTL)
	optional("source_ipv4", s.Tunnel.Source4.IsValid(), quote(s.Tunnel.Source4.String()))
	optional("source_ipv6", s.Tunnel.Source6.IsValid(), quote(s.Tunnel.Source6.String()))
	renderBGP(&c.BGP, line, quote)
	line("[limits]\nfragment_hold = %d\nfragment_hold_timeout = %q\nfragment_timeout = %q", s.Limits.FragmentHold, s.Limits.FragmentHoldTimeout, s.Limits.FragmentTimeout)
	line("reply_rate = %d\nreply_burst = %d", s.Limits.ReplyRate, s.Limits.ReplyBurst)
	for _, v := range s.VIPs {
		line("[[vip]]\naddress = %q\nfail_action = %q\narp = %t\nping = %t", v.Address, v.FailAction, v.AnswerARP, v.AnswerPing)
		renderAnnounce(&v.Announce, line)
	}
	for _, p := range s.Pools {
		line("[[pool]]\nname = %s", quote(p.Name))
		renderHealth(&p, line, quote)
		for _, e := range p.Backends {
			at := e.Address.String()
			if e.Port != 0 {
				at = netip.AddrPortFrom(e.Address, e.Port).String()
			}
			line("[[pool.backend]]\naddress = %q\nweight = %d", at, e.Weight)
			optional("mtu", e.MTU != 0, fmt.Sprint(e.MTU))
			optional("name", e.Name != "", quote(e.Name))
		}
	}
	for _, v := range s.Services {
		line("[[service]]\nname = %s\nvip = %q\nprotocol = %q\nport = %s\npool = %s\nmethod = %q", quote(v.Name), v.VIP, v.Protocol, ports(v.Ports), quote(v.Pool), v.Method)
		if v.Affinity.Enabled {
			line("affinity = \"client_ip\"\naffinity_timeout = %q", v.Affinity.Timeout)
		}
		line("on_backend_gone = %q\nmss_clamp = %t\ndrain_timeout = %q", v.Gone, !v.DisableMSS, v.DrainTimeout)
		var ranges []string
		for _, r := range v.SourceRanges {
			ranges = append(ranges, quote(r.String()))
		}
		line("source_ranges = [%s]", strings.Join(ranges, ", "))
		t := &v.Timeouts
		line("timeouts = { tcp_syn_sent = %q, tcp_established = %q, tcp_fin_wait = %q, tcp_close = %q, udp = %q, udp_stream = %q, sctp = %q, icmp = %q }",
			t.TCPSynSent, t.TCPEstablished, t.TCPFinWait, t.TCPClose, t.UDP, t.UDPStream, t.SCTP, t.ICMP)
	}
	return b.String()
}

// checkParse demands of any input: no panic; errors inside the file and in
// order; and of an accepted one: the model finds nothing wrong with it, and
// written out in full it loads as the same configuration.
func checkParse(t *testing.T, input []byte) {
	t.Helper()
	c, err := Parse("f", input)
	if err != nil {
		errs, ok := err.(Errors)
		if !ok || len(errs) == 0 || c != nil {
			t.Fatalf("got %v and the error %#v", c, err)
		}
		lines := strings.Split(stripBOM(string(input)), "\n")
		for i, e := range errs {
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 || e.Message == "" {
				t.Fatalf("%v is not in the file", e)
			}
			if i > 0 && (errs[i-1].Line > e.Line || errs[i-1].Line == e.Line && errs[i-1].Column > e.Column) {
				t.Fatalf("%v comes after %v", e, errs[i-1])
			}
		}
		return
	}
	if errs := model.Validate(&c.State); len(errs) > 0 {
		t.Fatalf("accepted, but the model says %v", errs)
	}
	text := render(c)
	again, err := Parse("again", []byte(text))
	if err != nil {
		t.Fatalf("written out it does not load: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(c, again) {
		t.Fatalf("written out it loads as\n%+v\nnot\n%+v\n%s", again, c, text)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, text := range []string{"", base, everyValue, string(Reference()), string(uncomment(Reference()))} {
		if _, err := Parse("f", []byte(text)); err != nil {
			t.Fatal(err)
		}
		checkParse(t, []byte(text))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everyValue))
	f.Add(Reference())
	f.Add(uncomment(Reference()))
	f.Add([]byte(base))
	for _, c := range errorCases {
		if len(c.toml) < 10_000 {
			f.Add([]byte(c.toml))
		}
	}
	before, _, _ := strings.Cut(base, "[[service]]\n")
	for _, c := range serviceCases {
		f.Add([]byte(before + "[[service]]\n" + c.lines))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) <= 1<<16 {
			checkParse(t, input)
		}
	})
}
