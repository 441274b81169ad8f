package configs

import (
	"log/slog"
	"net/netip"
	"reflect"
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
