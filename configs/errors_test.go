package configs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A base that is right; cases add to it or replace lines of it.
const base = `[tunnel]
source_ipv4 = "198.18.10.1"
[[interface]]
name = "eth0"
[[snat]]
address = "198.18.10.2"
[[pool]]
name = "web"
[[pool.backend]]
address = "198.18.10.101:8080"
[[service]]
name = "web"
vip = "198.18.0.10"
protocol = "tcp"
port = 80
pool = "web"
`

func TestBaseIsRight(t *testing.T) {
	if _, err := Parse("base.toml", []byte(base)); err != nil {
		t.Fatal(err)
	}
}

// errorCases are wrong configurations and all that is said of them, line by
// line. Line numbers count from the case's own first line.
var errorCases = []struct {
	name, toml, want string
}{
	// Syntax.
	{"no value", "[node]\nname =\n", `2:7: expected value but found '\n' instead`},
	{"bare word", "[xdp]\npin_path = none\n", `2:12: expected value but found "none" instead`},
	{"unfinished string", "[node]\nname = \"lb1\n", `2:12: strings cannot contain newlines`},
	{"after a multi-byte character", "[node]\nname = \"é\" x", `2:12: expected a top-level item to end with a newline, comment, or EOF, but got 'x' instead`},
	{"byte order mark", "\xef\xbb\xbf[node]\nnam = 1", `2:1: unknown key "nam" in [node] (did you mean "name"?)`},
	{"key twice", "[node]\nname = \"a\"\nname = \"b\"\n", `3:1: Key 'node.name' has already been defined.`},
	{"table twice", "[node]\n[node]\n", `2:2: Key 'node' has already been defined.`},
	{"not UTF-8", "[node]\nname = \"\xff\"", `2:8: invalid UTF-8 byte: 0xff`},
	{"UTF-16", "[\x00n\x00", `1:2: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8`},
	{"nested arrays", "x = " + strings.Repeat("[", 1_000_000), `1:37: nested more than 32 deep`},
	{"nested tables", "x = " + strings.Repeat("{a=", 1_000_000), `1:101: nested more than 32 deep`},
	{"long dotted key", strings.Repeat("a.", 1_000_000) + "a = 1", `1:65: nested more than 32 deep`},

	// Unknown keys and tables.
	{"unknown key", "[[service]]\nname = \"web\"\nvip = \"198.18.0.10\"\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\nmehtod = \"nat\"\n[[pool]]\nname = \"web\"\n",
		`7:1: unknown key "mehtod" in [[service]] (did you mean "method"?)`},
	{"unknown key, nothing near", "[node]\ncolour = \"red\"\n", `2:1: unknown key "colour" in [node]`},
	{"wrong case", "[node]\nName = \"a\"\n", `2:1: unknown key "Name" in [node] (did you mean "name"?)`},
	{"unknown table", "[[servce]]\nname = \"web\"\n", `1:3: unknown table "servce" (did you mean "service"?)`},
	{"unknown table, nothing near", "[ospf]\n", `1:2: unknown table "ospf"`},
	{"key without table", "log_level = \"info\"\n", `1:1: unknown key "log_level" before the first table`},
	{"unknown dotted key", "node.names = \"a\"\n", `1:6: unknown key "names" in [node] (did you mean "name"?)`},
	{"unknown key in inline table", "xdp = { pin_path = \"/a\", pn = 1 }\n", `1:26: unknown key "pn" in [xdp]`},
	{"quoted unknown key", "[node]\n\"a b\" = 1\n", `2:1: unknown key "a b" in [node]`},

	// Tables of the wrong kind.
	{"list as one table", "[service]\nname = \"web\"\n", `1:1: service: is a list: write [[service]]`},
	{"one table as list", "[[node]]\nname = \"a\"\n", `1:3: node: is given once, as [node], and is no list`},
	{"table as value", "node = 1\n", `1:8: node: expected a table, found an integer`},
	{"list as value", "pool = \"web\"\n", `1:8: pool: expected tables, written [[pool]], found a string`},
	{"list of values", "pool = [ 1 ]\n", `1:10: pool: expected a table, found an integer`},

	// Types.
	{"types", "[node]\nname = 1\nlog_level = true\n[dataplane]\nring_size = \"2048\"\nhuge_pages = \"no\"\ncpus = 1\nuser = 1.5\nqueues = \"all\"\nspin = 50\nbusy_poll = false\n[xdp]\npin_path = [ \"/a\" ]\n",
		`2:8: name: expected a string, found an integer
3:13: log_level: expected a string, found a boolean
5:13: ring_size: expected an integer, found a string
6:14: huge_pages: expected true or false, found a string
7:8: cpus: expected an array of CPU numbers, found an integer
8:8: user: expected a user name or number, found a floating-point number
9:10: queues: expected an integer or "auto", found "all"
10:8: spin: a duration is a string with a unit, such as "50s" or "50ms", not a number
11:13: busy_poll: expected a duration such as "30s", found a boolean
13:12: pin_path: expected a string, found an array`},
	{"dates and tables", "[node]\nname = 1979-05-27\nhash_seed = { a = 1 }\n",
		`2:8: name: expected a string, found a date
3:13: hash_seed: expected a string, found a table`},

	// Single values of the node.
	{"node", "[node]\nname = \"a b\"\nhash_seed = \"00000000000000000000000000000000\"\nlog_level = \"warning\"\nlog_format = \"jsn\"\n",
		`2:8: name: "a b" is no name for a node: at most 253 bytes, no spaces, nothing unprintable
3:13: hash_seed: all zeros are no seed
4:13: log_level: "warning" is none of "debug", "info", "warn", "error"
5:14: log_format: "jsn" is none of "text", "json" (did you mean "json"?)`},
	{"dataplane", "[dataplane]\nring_size = 1000\nframes = 100\nframe_size = 3000\nheadroom = 1\nflow_table_size = 5\nqueues = 0\ncpus = [ 1, 2, 1, \"3\", 4096 ]\nbusy_poll = \"1s\"\nbusy_poll_budget = 0\nspin = \"1500ns\"\nuser = \"root\"\n",
		`2:13: ring_size: 1000 is not a power of two
3:10: frames: 100 is out of range; it must be 256 to 1048576
4:14: frame_size: 3000 is neither 2048 nor 4096
5:12: headroom: 1 is out of range; it must be 64 to 2048
6:19: flow_table_size: 5 is out of range; it must be 1024 to 100000000
7:10: queues: 0 is out of range; it must be 1 to 256
8:16: cpus: CPU 1 is listed twice
8:19: cpus: expected a CPU number, found a string
8:24: cpus: 4096 is out of range; it must be 0 to 4095
9:13: busy_poll: 1s is out of range; it must be 0s to 10ms
10:20: busy_poll_budget: 0 is out of range; it must be 1 to 1024
11:8: spin: 1500ns is not a whole number of microseconds
12:8: user: the data process must not run as root`},
	{"frames and rings", "[dataplane]\nring_size = 8192\n", `1:1: frames: 8192 frames are fewer than twice the ring size of 8192, and one ring would starve the other`},
	{"headroom and frame", "[dataplane]\nheadroom = 512\n", `2:12: headroom: 512 bytes of headroom and 256 of the kernel's leave 1280 of a frame of 2048; a full-sized packet needs 1522`},
	{"user 0", "[dataplane]\nuser = 0\n", `2:8: user: the data process must not run as root`},
	{"user -1", "[dataplane]\nuser = -1\n", `2:8: user: -1 is out of range; it must be 1 to 4294967294`},
	{"user empty", "[dataplane]\nuser = \"\"\n", `2:8: user: "" is not the name of a user`},
	{"announcements", "[arp]\ninterfaces = \"some\"\nrepeat = 0\nrepeat_interval = \"1us\"\nrefresh = \"10ms\"\nrate = 1\n", `2:14: interfaces: "some" is none of "auto", "on-link", "all"
3:10: repeat: 0 is out of range; it must be 1 to 10
4:19: repeat_interval: 1us is out of range; it must be 100ms to 1m
5:11: refresh: 10ms is out of range; it must be "0s", or "1s" to "24h"
6:8: rate: 1 is out of range; it must be 10 to 100000`},
	{"state directory", "[state]\ndirectory = \"state\"\nremoval_guard = 0\n", `2:13: directory: "state" is not a plain absolute path
3:17: removal_guard: 0 is out of range; it must be 1 to 100`},
	{"api", "[api]\nsocket = \"run/x\"\ngroup = \"a b\"\noperators = [ \"ops\", \"user:\", 7 ]\nreaders = \"everybody\"\ntls_cert = \"/c\"\ntls_readers = [ \"ou:x\" ]\n", `2:10: socket: "run/x" is not a plain absolute path
3:9: group: "a b" is not the name of a group
4:22: operators: "user:" names nobody: write the name of a user or group, "user:NAME" or "group:NAME"
4:31: operators: expected a string, found an integer
5:11: readers: expected an array of strings, found a string
6:12: tls_cert: is for listen, which is not given
7:15: tls_readers: is for listen, which is not given`},
	{"api without mutual TLS", "[api]\nlisten = \"192.0.2.1:8443\"\ntls_cert = \"/c\"\ntls_key = \"/k\"\ntls_operators = [ \"ops\" ]\n", `2:10: listen: needs client_ca: the admin API is on TCP only where both ends show certificates
5:19: tls_operators: "ops" names nobody: write "cn:", "ou:", "dns:", "email:", "uri:" or "ip:" and what the certificate has there`},
	{"api that nobody could use", "[api]\nlisten = \"[::1]:8443\"\ntls_cert = \"/c\"\ntls_key = \"/k\"\nclient_ca = \"/a\"\n", `2:10: listen: nobody could use it: name certificates in tls_operators or tls_readers`},
	{"api address", "[api]\nlisten = \":8443\"\ntls_cert = \"/c\"\ntls_key = \"k\"\nclient_ca = \"/a\"\n", `2:10: listen: ":8443" is not an address with a port, such as "192.0.2.1:8443" or "[2001:db8::1]:8443"
4:11: tls_key: "k" is not a plain absolute path`},
	{"api socket too long", "[api]\nsocket = \"/" + strings.Repeat("s", 107) + "\"\n", `2:10: socket: the path has 108 bytes; a socket's may have 107`},
	{"metrics", "[metrics]\nlisten = \"localhost:9480\"\ntls_cert = \"m.crt\"\nbackend_limit = 0\nbackends = 1\n",
		`2:10: listen: "localhost:9480" is no address with a port; write it as "127.0.0.1:9480" or "[::]:9480"
3:12: tls_cert: "m.crt" is not an absolute path
4:17: backend_limit: 0 is out of range; it must be 1 to 10000000
5:12: backends: expected true or false, found an integer`},
	{"metrics with half a certificate", "[metrics]\nlisten = \"[::1]:1\"\ntls_cert = \"/c\"\n", `3:12: tls_cert: needs tls_key`},
	{"metrics with half a key", "[metrics]\nlisten = \"[::1]:1\"\ntls_key = \"/k\"\n", `3:11: tls_key: needs tls_cert`},
	{"metrics with a certificate for nothing", "[metrics]\ntls_key = \"/k\"\ntls_cert = \"/c\"\n", `3:12: tls_cert: is for listen, which is not given`},
	{"metrics without a port", "[metrics]\nlisten = \"127.0.0.1:0\"\n", `2:10: listen: "127.0.0.1:0" is no address with a port; write it as "127.0.0.1:9480" or "[::]:9480"`},
	{"log limits", "[node]\nlog_rate = -1\nlog_burst = 0\n", `2:12: log_rate: -1 is out of range; it must be 0 to 1000000
3:13: log_burst: 0 is out of range; it must be 1 to 1000000`},
	{"lifecycle", "[lifecycle]\nstandby = \"yes\"\nstuck_after = \"100ms\"\norphan_limit = \"-1s\"\n",
		`2:11: standby: expected true or false, found a string
3:15: stuck_after: 100ms is out of range; it must be 500ms to 1m
4:16: orphan_limit: -1s is out of range; it must be 0s to 720h`},
	{"pin path", "[xdp]\npin_path = \"bpf/../x\"\n", `2:12: pin_path: "bpf/../x" is not a plain absolute path`},

	// Interfaces and neighbours.
	{"interfaces", "[[interface]]\nname = \"eth0\"\nxdp_mode = \"generic\"\nzero_copy = \"on\"\n[[interface]]\nname = \"eth0\"\nxdp_mode = \"driver\"\n[[interface]]\nmtu = 100\nmac = \"01:00:5e:00:00:01\"\ngateway = \"224.0.0.1\"\n[[interface]]\nname = \"much-too-long-a-name\"\nmac = \"x\"\nneed_wakeup = 1\nqueues = 257\n[[interface]]\nname = \"a/b\"\nmac = \"00:00:00:00:00:00\"\ngateway = \"fe80::1%eth0\"\n",
		`4:13: zero_copy: zero-copy is impossible with xdp_mode = "generic"
6:8: name: interface "eth0" is listed twice
7:12: xdp_mode: "driver" is none of "auto", "native", "generic"
8:1: missing key "name" in [[interface]]
9:7: mtu: 100 is out of range; it must be 576 to 65535
10:7: mac: 01:00:5e:00:00:01 is a multicast or broadcast address
11:11: gateway: 224.0.0.1 is not the address of a neighbour
13:8: name: "much-too-long-a-name" is no name of an interface: it is longer than 15 bytes
14:7: mac: "x" is not an Ethernet address; write it as "02:00:00:00:00:01"
15:15: need_wakeup: expected true or false, found an integer
16:10: queues: 257 is out of range; it must be 1 to 256
18:8: name: "a/b" is no name of an interface: it has a slash, a colon, a space or an unprintable character
19:7: mac: 00:00:00:00:00:00 is no station's address
20:11: gateway: "fe80::1%eth0" has a zone; write it as fe80::1`},
	{"neighbours", "[[interface]]\nname = \"eth0\"\n[[neighbor]]\naddress = \"198.18.0.1\"\nmac = \"02:00:00:00:00:01\"\ninterface = \"eht0\"\n[[neighbor]]\naddress = \"198.18.0.1\"\n[[neighbor]]\ninterface = \"eth0\"\naddress = \"::1\"\nmac = \"ff:ff:ff:ff:ff:ff\"\n",
		`6:13: interface: no [[interface]] has the name "eht0" (did you mean "eth0"?)
7:1: missing key "mac" in [[neighbor]]
7:1: missing key "interface" in [[neighbor]]
8:11: address: neighbour 198.18.0.1 is listed twice
11:11: address: ::1 is not the address of a neighbour
12:7: mac: ff:ff:ff:ff:ff:ff is a multicast or broadcast address`},

	// Addresses.
	{"addresses", "[[vip]]\naddress = \"198.18.0\"\n[[vip]]\naddress = \"::ffff:198.18.0.1\"\n[[vip]]\naddress = \"fe80::1%1\"\n[[vip]]\naddress = 1\n[[vip]]\naddress = \"198.18.0.0/24\"\n[[vip]]\n[[vip]]\naddress = \"224.0.0.1\"\n[[vip]]\naddress = \"127.0.0.1\"\n[[vip]]\naddress = \"198.18.0.1\"\narp = \"yes\"\nfail_action = \"dorp\"\n[[vip]]\naddress = \"198.18.0.1\"\n",
		`2:11: address: "198.18.0" is not an IP address
4:11: address: "::ffff:198.18.0.1" is an IPv4-mapped IPv6 address; write it as 198.18.0.1
6:11: address: "fe80::1%1" has a zone; write it as fe80::1
8:11: address: expected an IP address in a string, found an integer
10:11: address: "198.18.0.0/24" is a prefix, not an IP address
11:1: missing key "address" in [[vip]]
13:11: VIP address 224.0.0.1 is a multicast address
15:11: VIP address 127.0.0.1 is a loopback address
18:7: arp: expected true or false, found a string
19:15: fail_action: "dorp" is none of "drop", "pass" (did you mean "drop"?)
21:11: VIP 198.18.0.1 is listed twice`},
	{"SNAT", "[[snat]]\naddress = \"198.18.10.9-198.18.10.1\"\n[[snat]]\naddress = \"198.18.10.1-2001:db8::1\"\n[[snat]]\naddress = \"198.18.10.1/24\"\n[[snat]]\naddress = \"2001:db8::/64\"\n[[snat]]\naddress = \"198.18.10.x/24\"\n[[snat]]\naddress = \"198.18.10.0/30\"\nports = \"2000-1000\"\n[[snat]]\naddress = \"198.18.10.2\"\nports = 0\n[[snat]]\naddress = \"198.18.10.3\"\nports = \"all\"\n[[snat]]\naddress = \"198.18.10.3-198.18.10.x\"\nports = true\n[[snat]]\naddress = [ ]\n[[snat]]\naddress = \"::ffff:198.18.0.0/120\"\n",
		`2:11: address: the range "198.18.10.9-198.18.10.1" ends before it begins
4:11: address: the range "198.18.10.1-2001:db8::1" has ends of two families
6:11: address: "198.18.10.1/24" has bits set after its prefix; write it as 198.18.10.0/24
8:11: address: "2001:db8::/64" is more than 4096 addresses
10:11: address: "198.18.10.x/24" is not a prefix
13:9: ports: the port range "2000-1000" ends before it begins
15:11: SNAT address 198.18.10.2 is listed twice
16:9: ports: 0 is out of range; it must be 1 to 65535
18:11: SNAT address 198.18.10.3 is listed twice
19:9: ports: "all" is not a range of ports; write it as "8000-8010", from 1 to 65535
21:11: address: "198.18.10.x" is not an IP address
22:9: ports: expected an integer or a range such as "8000-8010", found a boolean
24:11: address: expected an address, a range "a-b" or a prefix in a string, found an array
26:11: address: "::ffff:198.18.0.0/120" is IPv4-mapped; write it as an IPv4 prefix`},
	{"tunnel", "[tunnel]\nsource_ipv4 = \"2001:db8::1\"\nsource_ipv6 = \"198.18.0.1\"\ngue_port = 0\nttl = 256\n",
		`2:15: tunnel source 2001:db8::1 is not an IPv4 address
3:15: tunnel source 198.18.0.1 is not an IPv6 address
4:12: gue_port: 0 is out of range; it must be 1 to 65535
5:7: ttl: 256 is out of range; it must be 1 to 255`},
	{"limits and timeouts", "[limits]\nfragment_hold = 0\nfragment_hold_timeout = \"2m\"\nfragment_timeout = \"1.5us\"\nreply_rate = -1\nreply_burst = \"many\"\n[timeouts]\ntcp_established = \"30d\"\nudp = \"0s\"\nicmp = \"600h\"\nsctp = \"1000.5ms\"\ntcp = \"1s\"\n",
		`2:17: fragment_hold: 0 is out of range; it must be 1 to 65536
3:25: fragment_hold_timeout: 2m is out of range; it must be 1ms to 1m
4:20: fragment_timeout: 1.5us is out of range; it must be 1ms to 1h
5:14: reply_rate: -1 is out of range; it must be 1 to 16777216
6:15: reply_burst: expected an integer, found a string
8:19: tcp_established: "30d" is not a duration; write it as "500ms", "30s", "5m" or "1h30m"
9:7: udp: 0s is out of range; it must be 1s to 576h
10:8: icmp: 600h is out of range; it must be 1s to 576h
11:8: sctp: 1000.5ms is not a whole number of milliseconds
12:1: unknown key "tcp" in [timeouts]`},

	// Pools.
	{"backends", "[[pool]]\nname = \"web\"\n[[pool.backend]]\naddress = \"web1:80\"\n[[pool.backend]]\naddress = \"198.18.0.1:0\"\n[[pool.backend]]\naddress = \"198.18.0.1:http\"\n[[pool.backend]]\naddress = \"[::ffff:198.18.0.1]:80\"\n[[pool.backend]]\naddress = \"web1\"\n[[pool.backend]]\naddress = 80\n[[pool.backend]]\nweight = 65536\n[[pool.backend]]\naddress = \"[2001:db8::1]\"\nmtu = 1000\nname = \"\"\n[[pool.backend]]\naddress = \"2001:db8::1\"\nweight = \"2\"\n",
		`4:11: address: "web1" is not an IP address
6:11: address: "198.18.0.1:0": port "0" is not a number from 1 to 65535
8:11: address: "198.18.0.1:http": port "http" is not a number from 1 to 65535
10:11: address: "::ffff:198.18.0.1" is an IPv4-mapped IPv6 address; write it as 198.18.0.1
12:11: address: "web1" is not an IP address with or without a port; write it as "192.0.2.1:80", "[2001:db8::1]:80" or "192.0.2.1"
14:11: address: expected an IP address in a string, with or without a port, found an integer
15:1: missing key "address" in [[pool.backend]]
16:10: weight: 65536 is out of range; it must be 0 to 65535
19:7: pool "web": backend 2001:db8::1 has MTU 1000; it must be 1280 to 65535
20:8: name: is empty; leave it out, and the backend is named after its address
22:11: pool "web": backend 2001:db8::1 is listed twice
23:10: weight: expected an integer, found a string`},
	{"pools", "[[pool]]\n[[pool]]\nname = \"web\"\nbackend = [ { address = \"198.18.0.1\" }, { address = \"198.18.0.1\", wieght = 1 } ]\n[[pool]]\nname = \"web\"\nbackends = []\n[[pool]]\nname = 5\n",
		`1:1: missing key "name" in [[pool]]
4:53: pool "web": backend 198.18.0.1 is listed twice
4:67: unknown key "wieght" in [[pool.backend]] (did you mean "weight"?)
6:8: pool "web" is defined twice
7:1: unknown key "backends" in [[pool]] (did you mean "backend"?)
9:8: name: expected a string, found an integer`},
}

// serviceCases change the base: each replaces its service's lines by key.
var serviceCases = []struct {
	name, lines, want string
}{
	{"nothing", "", `11:1: missing key "name" in [[service]]
11:1: missing key "vip" in [[service]]
11:1: missing key "protocol" in [[service]]
11:1: missing key "port" in [[service]]
11:1: missing key "pool" in [[service]]`},
	{"values", "name = \"web\"\nvip = \"198.18.0\"\nprotocol = \"http\"\nport = 65536\npool = 1\nmethod = \"dnat\"\naffinity = \"ip\"\naffinity_timeout = \"1ms\"\non_backend_gone = \"rst\"\nsource_ranges = [ \"x\", 1, \"192.0.2.1/24\", \"192.0.2.1\" ]\nmss_clamp = 0\ndrain_timeout = \"0s\"\ntimeouts = { udp = 1 }\n",
		`13:7: vip: "198.18.0" is not an IP address
14:12: protocol: "http" is none of "tcp", "udp", "sctp"
15:8: port: 65536 is out of range; it must be 0 to 65535
16:8: pool: expected a string, found an integer
17:10: method: "dnat" is none of "nat", "ipip", "gue", "l2" (did you mean "nat"?)
18:12: affinity: "ip" is none of "none", "client_ip"
19:20: affinity_timeout: 1ms is out of range; it must be 1s to 576h
20:19: on_backend_gone: "rst" is none of "reset", "rehash", "drop"
21:19: source_ranges: "x" is not a prefix such as "192.0.2.0/24"
21:24: source_ranges: expected a prefix in a string, found an integer
22:13: mss_clamp: expected true or false, found an integer
23:17: drain_timeout: 0s is out of range; it must be 1s to 576h
24:20: udp: a duration is a string with a unit, such as "1s" or "1ms", not a number`},
	{"unknown pool", service("pool", `"wbe"`), `16:8: pool: no [[pool]] has the name "wbe" (did you mean "web"?)`},
	{"port range with the backend's own port", service("port", `"8000-8010"`),
		`16:8: service "web": a service of several ports keeps the client's port, and the backend 198.18.10.101:8080 of pool "web" has a port of its own`},
	{"port range", service("port", `"0-65535"`), `15:8: port: "0-65535" is not a range of ports; write it as "8000-8010", from 1 to 65535`},
	{"port backwards", service("port", `"90-80"`), `15:8: port: the port range "90-80" ends before it begins`},
	{"port type", service("port", `8.5`), `15:8: port: expected an integer or a range such as "8000-8010", found a floating-point number`},
	{"method impossible for the family", service("vip", `"2001:db8::10"`),
		`11:1: service "web": method nat cannot carry the IPv6 VIP 2001:db8::10 to the IPv4 backend 198.18.10.101:8080 of pool "web"; ipip and gue can`},
	{"method impossible for the port", service("port", "80") + "method = \"ipip\"\n",
		`17:10: service "web": method ipip cannot change the port, and the backend 198.18.10.101:8080 of pool "web" has another port than the service`},
	{"VIP is a SNAT address", service("vip", `"198.18.10.2"`), `6:11: SNAT address 198.18.10.2 is also a VIP`},
	{"VIP on two pools", service("port", "80") + "[[pool]]\nname = \"api\"\n[[service]]\nname = \"api\"\nvip = \"198.18.0.10\"\nprotocol = \"tcp\"\nport = \"79-90\"\npool = \"api\"\n",
		`23:8: service "api": 198.18.0.10 tcp port 80 already belongs to service "web"`},
	{"service twice", service("port", "80") + "[[service]]\nname = \"web\"\nvip = \"198.18.0.11\"\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\n",
		`18:8: service "web" is defined twice`},
	{"source range of the other family", service("port", "80") + "source_ranges = [ \"2001:db8::/32\" ]\n",
		`17:17: service "web": source range 2001:db8::/32 is IPv6 and the VIP 198.18.0.10 is IPv4`},
	{"source range with bits", service("port", "80") + "source_ranges = [ \"192.0.2.1/24\" ]\n",
		`17:17: service "web": source range 192.0.2.1/24 has bits set after its prefix; write it as 192.0.2.0/24`},
	{"source ranges type", service("port", "80") + "source_ranges = \"192.0.2.0/24\"\n",
		`17:17: source_ranges: expected an array of prefixes in strings, found a string`},
}

// service is the base's service with one value replaced.
func service(key, value string) string {
	_, lines, _ := strings.Cut(base, "[[service]]\n")
	var out strings.Builder
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, key+" = ") {
			line = key + " = " + value + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

func TestErrors(t *testing.T) {
	for _, c := range errorCases {
		expectErrors(t, c.name, c.toml, c.want)
	}
	before, _, _ := strings.Cut(base, "[[service]]\n")
	for _, c := range serviceCases {
		expectErrors(t, c.name, before+"[[service]]\n"+c.lines, c.want)
	}
}

func expectErrors(t *testing.T, name, toml, want string) {
	t.Helper()
	cfg, err := Parse("f", []byte(toml))
	if cfg != nil || err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		rest, ok := strings.CutPrefix(line, "f:")
		if !ok {
			t.Errorf("%s: line without the file's name: %q", name, line)
		}
		lines = append(lines, rest)
	}
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// TestNoConsequences: what could not be read is reported once, and nothing is
// said of what would follow from it.
func TestNoConsequences(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"SNAT address", `address = "198.18.10.2"`, `address = "198.18.10"`, `6:11: address: "198.18.10" is not an IP address`},
		{"backend", `"198.18.10.101:8080"`, `"198.18.10.101:80800"`, `10:11: address: "198.18.10.101:80800": port "80800" is not a number from 1 to 65535`},
		{"pool's name", "name = \"web\"\n[[pool.backend]]", "name = \"web\"\nx = 1\n[[pool.backend]]", `9:1: unknown key "x" in [[pool]]`},
		{"tunnel", "port = 80\n", "port = 8080\nmethod = \"ipip\"\n", ""},
		{"tunnel source", "[tunnel]\nsource_ipv4 = \"198.18.10.1\"", "[tunnel]\nsource_ipv4 = \"198.18.10\"", `2:15: source_ipv4: "198.18.10" is not an IP address`},
	} {
		text := strings.Replace(base, c.from, c.to, 1)
		if text == base {
			t.Fatalf("%s: the base has changed", c.name)
		}
		if c.name == "tunnel source" {
			text = strings.Replace(text, "port = 80\n", "port = 8080\nmethod = \"ipip\"\n", 1)
		}
		if c.want == "" {
			if _, err := Parse("f", []byte(text)); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		expectErrors(t, c.name, text, c.want)
	}
}

func TestTooManyInterfaces(t *testing.T) {
	text := ""
	for i := range 17 {
		text += "[[interface]]\nname = \"eth" + string(rune('a'+i)) + "\"\n"
	}
	expectErrors(t, "17 interfaces", text, `34:8: name: interface "ethq" is one too many; there may be 16`)
}

// TestManyErrors: the work spent on suggestions is bounded.
func TestManyErrors(t *testing.T) {
	var text strings.Builder
	for i := range 2000 {
		n := string(rune('a'+i%26)) + strings.Repeat("x", i%50) + strings.Repeat("y", i/50)
		text.WriteString("[[pool]]\nname = \"p" + n + "\"\n")
		text.WriteString("[[service]]\nname = \"s" + n + "\"\nvip = \"198.18.0.1\"\nprotocol = \"tcp\"\nport = " + "1" + "\npool = \"q" + n + "\"\n")
	}
	r := &reader{hints: hintBudget}
	_, err := r.parse("f", []byte(text.String()))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) < 2000 {
		t.Fatalf("%d errors", len(errs))
	}
	for i := 1; i < len(errs); i++ {
		a, b := errs[i-1], errs[i]
		if a.Line > b.Line || a.Line == b.Line && a.Column > b.Column {
			t.Fatalf("errors out of order: %v before %v", a, b)
		}
	}
	if first := errs[0].Error(); !strings.HasSuffix(first, `(did you mean "pa"?)`) {
		t.Errorf("the first error has no suggestion: %s", first)
	}
	if strings.Contains(errs[len(errs)-1].Message, "did you mean") {
		t.Errorf("the last error still has a suggestion: %v", errs[len(errs)-1])
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, err := Parse("f", []byte("a = 1\nb = 2\n"))
	var one *Error
	if !errors.As(err, &one) || one.File != "f" || one.Line != 1 || one.Column != 1 {
		t.Errorf("got %+v", one)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "fairlead.toml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) || err.Error() != "read configuration: open "+file+": no such file or directory" {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir); err == nil || err.Error() != "read configuration: read "+dir+": is a directory" {
		t.Errorf("directory: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Load(file); err != nil || c.Node.Name != host {
		t.Errorf("empty file: %+v, %v", c, err)
	}
	write("[node]\nname = \"lb7\"\n")
	if c, err := Load(file); err != nil || c.Node.Name != "lb7" {
		t.Errorf("named: %+v, %v", c, err)
	}
	write("[node]\nnmae = \"lb7\"\n")
	if _, err := Load(file); err == nil || err.Error() != file+`:2:1: unknown key "nmae" in [node] (did you mean "name"?)` {
		t.Errorf("wrong file: %v", err)
	}
	if err := os.Truncate(file, MaxFileSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || err.Error() != file+":1:1: the file is larger than 64 MiB" {
		t.Errorf("large file: %v", err)
	}
}
