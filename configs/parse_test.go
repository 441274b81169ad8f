package configs

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

const everyValue = `
node = { name = "lb1", hash_seed = "000102030405060708090a0b0c0d0e0F", log_level = "debug", log_format = "json", log_rate = 0, log_burst = 5 }

[dataplane]
ring_size = 4096
frames = 16_384
frame_size = 4096
headroom = 512
flow_table_size = 2_000_000
flow_memo = "on"
flow_memo_size = 3_000_000
queues = 4
cpus = [ 2, 0 ]
busy_poll = "20us"
busy_poll_budget = 32
huge_pages = true
spin = "0s"
user = 65534

[xdp]
pin_path = ""

[state]
directory = "/srv/fairlead"
removal_guard = 100
[metrics]
listen = "[::1]:9480"
tls_cert = "/etc/fairlead/m.crt"
tls_key = "/etc/fairlead/m.key"
backends = false
backend_limit = 7
[lifecycle]
standby = false
stuck_after = "700ms"
orphan_limit = "1h"
[cluster]
key_file = "/etc/fairlead/k"
bind = "2001:db8::1"
gossip_port = 1
stream_port = 2
advertise = "2001:db8::2"
seeds = [ "lb2", "2001:db8::3", "[2001:db8::3]:5", "192.0.2.1:7" ]
probe_interval = "1s"
hold_down = "9s"
[cluster.health]
checkers = 5
tunnel_checkers = 2
[cluster.flows]
enabled = false
window = "90s"
hold = "2m"
[kubernetes]
kubeconfig = "/etc/kube/config"
context = "admin@rack"
class = "example.com/lb"
default_class = true
method = "nodeports"
local_method = "pods"
nodes_via = "gue"
zone = "rack-1"
node_name = "lb1.example.net"
pod_weights = true
annotations = [ "metallb", "kube-vip" ]
gateway = false
lease_namespace = "lb"
lease_name = "fairlead.rack"
resync = "1h"
[[kubernetes.pool]]
name = "a.b"
addresses = [ "203.0.113.0/25", "203.0.113.130 - 203.0.113.140", "2001:db8:1::5" ]
auto_assign = false
avoid_buggy_ips = true
priority = -5
namespace_selector = "team = web, env != test, example.com/tier in (a, b), !internal, x notin (), y"
service_selector = "a==b"
namespaces = [ "default", "kube-system" ]
[[kubernetes.pool]]
name = "b"
addresses = [ "203.0.113.141" ]

[api]
socket = "/srv/fairlead.sock"
group = "ops"
operators = [ "alice", "group:7" ]
readers = [ "user:bob" ]
listen = "[2001:db8::1]:8443"
tls_cert = "/etc/c.pem"
tls_key = "/etc/k.pem"
client_ca = "/etc/ca.pem"
tls_operators = [ "ou:ops" ]
tls_readers = [ "dns:a.example", "uri:spiffe://x/y" ]
[arp]
announce = false
interfaces = "on-link"
repeat = 10
repeat_interval = "100ms"
refresh = "0s"
rate = 10
detect_conflicts = false

[[interface]]
name = "eth0"
xdp_mode = "native"
zero_copy = "on"
xdp_tx = "on"
need_wakeup = false
mac = "02-00-00-00-00-01"
mtu = 9000
gateway = "fe80::1"
[[interface]]
name = "eth1.100"
queues = "auto"
[[interface]]
name = "eth2"
queues = 2

[[neighbor]]
address = "198.18.10.1"
mac = "02:00:00:00:00:fe"
interface = "eth1.100"

[[snat]]
address = "198.18.10.8/30"
[[snat]]
address = "198.18.10.20 - 198.18.10.21"
ports = "2000 - 3000"
[[snat]]
address = "2001:db8:10::1"
ports = 4000

[tunnel]
source_ipv4 = "198.18.10.2"
source_ipv6 = "2001:db8:10::2"
gue_port = 6081
ttl = 32

[limits]
fragment_hold = 1
fragment_hold_timeout = "1s"
fragment_timeout = "10s"
reply_rate = 2
reply_burst = 3

[timeouts]
udp = "20s"
icmp = "1m"

[[vip]]
address = "198.18.0.10"
fail_action = "pass"
arp = false
ping = false

[[pool]]
name = "web"
[[pool.backend]]
address = "198.18.10.101:8080"
weight = 0
mtu = 1400
name = "web1"
[[pool.backend]]
address = "198.18.10.102"
[[pool]]
name = "six"
backend = [ { address = "[2001:db8:10::3]:53" }, { address = "2001:db8:10::4" }, { address = "[2001:db8:10::5]" } ]
[[pool]]
name = "empty"

[[service]]
name = "web"
vip = "198.18.0.10"
protocol = "tcp"
port = 80
pool = "web"
affinity = "client_ip"
affinity_timeout = "1h"
on_backend_gone = "rehash"
source_ranges = [ "192.0.2.0/24", "203.0.113.9" ]
mss_clamp = false
drain_timeout = "1m"
[service.timeouts]
udp = "25s"
tcp_close = "1.5s"
[[service]]
name = "dns"
vip = "2001:db8::53"
protocol = "udp"
port = 53
pool = "six"
method = "gue"
[[service]]
name = "range"
vip = "198.18.0.10"
protocol = "sctp"
port = "8000-8010"
pool = "empty"
method = "l2"
on_backend_gone = "drop"
[[service]]
name = "all"
vip = "198.18.0.10"
protocol = "tcp"
port = 0
pool = "empty"
method = "ipip"
`

func TestEveryValue(t *testing.T) {
	got, err := Parse("every.toml", []byte(everyValue))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	times := model.DefaultTimeouts()
	times.UDP, times.ICMP = 20*time.Second, time.Minute
	own := times
	own.UDP, own.TCPClose = 25*time.Second, 1500*time.Millisecond
	all, some := model.PortRange{First: 1024, Last: 65535}, model.PortRange{First: 2000, Last: 3000}
	want := &Config{
		Node: Node{Name: "lb1", LogLevel: slog.LevelDebug, LogFormat: LogJSON, LogRate: 0, LogBurst: 5},
		Dataplane: Dataplane{
			RingSize: 4096, Frames: 16384, FrameSize: 4096, Headroom: 512, FlowTableSize: 2000000, FlowMemo: FlowMemoOn, FlowMemoSize: 3000000, Queues: 4, CPUs: []int{2, 0},
			BusyPoll: 20 * time.Microsecond, BusyPollBudget: 32, HugePages: true, User: "65534",
		},
		Store: Store{Directory: "/srv/fairlead", RemovalGuard: 100},
		API: API{
			Socket: "/srv/fairlead.sock", Group: "ops", Operators: []string{"alice", "group:7"}, Readers: []string{"user:bob"},
			Listen: "[2001:db8::1]:8443", TLSCert: "/etc/c.pem", TLSKey: "/etc/k.pem", ClientCA: "/etc/ca.pem",
			TLSOperators: []string{"ou:ops"}, TLSReaders: []string{"dns:a.example", "uri:spiffe://x/y"},
		},
		ARP:       ARP{Interfaces: ARPOnLink, Repeat: 10, RepeatInterval: 100 * time.Millisecond, Rate: 10},
		Metrics:   Metrics{Listen: "[::1]:9480", TLSCert: "/etc/fairlead/m.crt", TLSKey: "/etc/fairlead/m.key", BackendLimit: 7},
		Lifecycle: Lifecycle{Standby: false, StuckAfter: 700 * time.Millisecond, OrphanLimit: time.Hour},
		Cluster: Cluster{Enabled: true, KeyFile: "/etc/fairlead/k", Bind: addr("2001:db8::1"), GossipPort: 1, StreamPort: 2, Advertise: addr("2001:db8::2"),
			Seeds: []Seed{{"lb2", 2}, {"2001:db8::3", 2}, {"2001:db8::3", 5}, {"192.0.2.1", 7}}, ProbeInterval: time.Second, HoldDown: 9 * time.Second,
			Health: ClusterHealth{Checkers: 5, TunnelCheckers: 2},
			Flows:  ClusterFlows{Window: 90 * time.Second, Hold: 2 * time.Minute}},
		Kubernetes: Kubernetes{Enabled: true, Kubeconfig: "/etc/kube/config", Context: "admin@rack", Class: "example.com/lb", DefaultClass: true,
			Method: KubernetesNodePorts, LocalMethod: KubernetesPods, NodesVia: model.GUE, Zone: "rack-1", NodeName: "lb1.example.net", PodWeights: true, Annotations: []string{"metallb", "kube-vip"},
			LeaseNamespace: "lb", LeaseName: "fairlead.rack", Resync: time.Hour,
			Pools: []KubernetesPool{
				{Name: "a.b", Ranges: []AddressRange{{addr("203.0.113.0"), addr("203.0.113.127")}, {addr("203.0.113.130"), addr("203.0.113.140")}, {addr("2001:db8:1::5"), addr("2001:db8:1::5")}},
					AvoidBuggy: true, Priority: -5, NamespaceSelector: "team = web, env != test, example.com/tier in (a, b), !internal, x notin (), y", ServiceSelector: "a==b", Namespaces: []string{"default", "kube-system"}},
				{Name: "b", Ranges: []AddressRange{{addr("203.0.113.141"), addr("203.0.113.141")}}, AutoAssign: true},
			}},
		Interfaces: []Interface{
			{Name: "eth0", Queues: 4, XDPMode: XDPNative, ZeroCopy: ZeroCopyOn, XDPTX: XDPTXOn, MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 9000, Gateway: addr("fe80::1")},
			{Name: "eth1.100", Queues: 0, XDPMode: XDPAuto, ZeroCopy: ZeroCopyAuto, XDPTX: XDPTXAuto, NeedWakeup: true},
			{Name: "eth2", Queues: 2, XDPMode: XDPAuto, ZeroCopy: ZeroCopyAuto, XDPTX: XDPTXAuto, NeedWakeup: true},
		},
		Neighbors: []Neighbor{{Address: addr("198.18.10.1"), MAC: [6]byte{2, 0, 0, 0, 0, 0xfe}, Interface: "eth1.100"}},
		BGP:       model.DefaultBGP(),
		State: model.State{
			HashSeed: [2]uint64{0x0001020304050607, 0x08090a0b0c0d0e0f},
			Tunnel:   model.Tunnel{Source4: addr("198.18.10.2"), Source6: addr("2001:db8:10::2"), GUEPort: 6081, TTL: 32},
			Limits:   model.Limits{FragmentHold: 1, FragmentHoldTimeout: time.Second, FragmentTimeout: 10 * time.Second, ReplyRate: 2, ReplyBurst: 3},
			VIPs:     []model.VIP{{Address: addr("198.18.0.10"), FailAction: model.FailPass, Announce: model.DefaultAnnounce()}},
			SNATs: []model.SNAT{
				{Address: addr("198.18.10.8"), Ports: all}, {Address: addr("198.18.10.9"), Ports: all},
				{Address: addr("198.18.10.10"), Ports: all}, {Address: addr("198.18.10.11"), Ports: all},
				{Address: addr("198.18.10.20"), Ports: some}, {Address: addr("198.18.10.21"), Ports: some},
				{Address: addr("2001:db8:10::1"), Ports: model.PortRange{First: 4000, Last: 4000}},
			},
			Pools: []model.Pool{
				{Name: "web", Backends: []model.Backend{
					{Name: "web1", Address: addr("198.18.10.101"), Port: 8080, Weight: 0, MTU: 1400},
					{Address: addr("198.18.10.102"), Weight: 1},
				}},
				{Name: "six", Backends: []model.Backend{
					{Address: addr("2001:db8:10::3"), Port: 53, Weight: 1},
					{Address: addr("2001:db8:10::4"), Weight: 1},
					{Address: addr("2001:db8:10::5"), Weight: 1},
				}},
				{Name: "empty"},
			},
			Services: []model.Service{
				{
					Name: "web", VIP: addr("198.18.0.10"), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: "web", Method: model.NAT,
					Affinity: model.Affinity{Enabled: true, Timeout: time.Hour}, Gone: model.GoneRehash,
					SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("203.0.113.9/32")},
					Timeouts:     own, DisableMSS: true, DrainTimeout: time.Minute,
				},
				{
					Name: "dns", VIP: addr("2001:db8::53"), Protocol: model.UDP, Ports: model.PortRange{First: 53, Last: 53}, Pool: "six", Method: model.GUE,
					Gone: model.GoneReset, Timeouts: times, DrainTimeout: 5 * time.Minute,
				},
				{
					Name: "range", VIP: addr("198.18.0.10"), Protocol: model.SCTP, Ports: model.PortRange{First: 8000, Last: 8010}, Pool: "empty", Method: model.L2,
					Gone: model.GoneDrop, Timeouts: times, DrainTimeout: 5 * time.Minute,
				},
				{
					Name: "all", VIP: addr("198.18.0.10"), Protocol: model.TCP, Ports: model.AllPorts, Pool: "empty", Method: model.IPIP,
					Gone: model.GoneReset, Timeouts: times, DrainTimeout: 5 * time.Minute,
				},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}

	obs := got.StaticObservations()
	wantObs := &model.Observations{
		Interfaces: []model.Interface{
			{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 9000, Gateway: addr("fe80::1")}, {Name: "eth1.100", MTU: 1500}, {Name: "eth2", MTU: 1500},
		},
		NextHops: map[netip.Addr]model.NextHop{addr("198.18.10.1"): {Interface: "eth1.100", MAC: [6]byte{2, 0, 0, 0, 0, 0xfe}, Resolved: true}},
	}
	if !reflect.DeepEqual(obs, wantObs) {
		t.Errorf("observations\n%+v\nwant\n%+v", obs, wantObs)
	}
}

func TestHashSeed(t *testing.T) {
	for _, c := range []struct {
		text string
		want [2]uint64
	}{
		// The first half of the SHA-256 sum, as sha256sum prints it.
		{"", [2]uint64{0xe3b0c44298fc1c14, 0x9afbf4c8996fb924}},
		{"abc", [2]uint64{0xba7816bf8f01cfea, 0x414140de5dae2223}},
		{"FFFFFFFFFFFFFFFFfffffffffffffffe", [2]uint64{^uint64(0), ^uint64(1)}},
		{"FFFFFFFFFFFFFFFFfffffffffffffffe00", parseSeed("FFFFFFFFFFFFFFFFfffffffffffffffe00")},
	} {
		if got := parseSeed(c.text); got != c.want {
			t.Errorf("%q is %#x, want %#x", c.text, got, c.want)
		}
	}
	if parseSeed("a") == parseSeed("b") {
		t.Error("two texts make one seed")
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"method", "mehtod", 1}, {"method", "methd", 1}, {"method", "methoood", 2},
		{"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abcdef", "uvwxyz", 6},
	} {
		if got := editDistance(c.a, c.b, 100); got != c.want {
			t.Errorf("%q to %q is %d, want %d", c.a, c.b, got, c.want)
		}
		for limit := 1; limit <= 8; limit++ {
			if got := editDistance(c.a, c.b, limit); got != min(c.want, limit) {
				t.Errorf("%q to %q with limit %d is %d, want %d", c.a, c.b, limit, got, min(c.want, limit))
			}
		}
	}
}

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

// large is a file of 10,000 services with a pool of 10 backends each.
func large() []byte {
	var b strings.Builder
	b.WriteString("[[snat]]\naddress = \"198.18.0.1-198.18.0.16\"\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "\n[[pool]]\nname = \"pool-%d\"\n", i)
		for j := range 10 {
			n := i*10 + j
			fmt.Fprintf(&b, "[[pool.backend]]\naddress = \"10.%d.%d.%d:8080\"\nweight = %d\n", n>>16, n>>8&255, n&255, 1+j%3)
		}
		fmt.Fprintf(&b, "[[service]]\nname = \"service-%d\"\nvip = \"198.19.%d.%d\"\nprotocol = \"tcp\"\nport = 443\npool = \"pool-%d\"\n", i, i>>8, i&255, i)
	}
	return []byte(b.String())
}

func TestLargeFile(t *testing.T) {
	c, err := Parse("large.toml", large())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.State.Services) != 10_000 || len(c.State.Pools) != 10_000 || len(c.State.Pools[9_999].Backends) != 10 {
		t.Errorf("%d services, %d pools", len(c.State.Services), len(c.State.Pools))
	}
}

func BenchmarkParseLarge(b *testing.B) {
	data := large()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("large.toml", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanPositions(b *testing.B) {
	src := string(large())
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, stop := scanPositions(src); stop != nil {
			b.Fatal(stop)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	src := string(large())
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, err := decode(src); err != nil {
			b.Fatal(err)
		}
	}
}
