package main_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fairlead/dataplane/explain"
	"fairlead/dataplane/packet/packettest"
)

// TestExplain asserts what is said of flows of every fate.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f.toml", []byte(replayConfig+`
[[service]]
name = "private"
vip = "198.18.0.11"
protocol = "tcp"
port = "80-81"
pool = "far"
method = "l2"
source_ranges = ["192.0.2.0/24"]
affinity = "client_ip"
[[pool]]
name = "nobody"
[[service]]
name = "nobody"
vip = "198.18.0.11"
protocol = "tcp"
port = 0
pool = "nobody"
[[pool]]
name = "six"
[[pool.backend]]
address = "[2001:db8:10::1]:443"
[[snat]]
address = "2001:db8:10::2"
[[service]]
name = "six"
vip = "2001:db8::10"
protocol = "tcp"
port = 443
pool = "six"
`))
	for _, c := range []struct{ flow, want string }{
		{"203.0.113.9:1234 tcp 198.18.0.10:80", `flow      203.0.113.9:1234 tcp 198.18.0.10:80, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   web: port 80, method nat, pool web of 1 backend
source    allowed: any source is
hash      0x26a5f6bf88cd99a4 of the 5-tuple
table     slot 152 of 1009, table checksum 7f9bfbf8fb501c9b
backend   web1: 198.18.10.11, port 8080, weight 1, up
next hop  inside, 02:00:00:00:02:11
mtu       1500 on the way, room for packets of 1500
rewrite   198.18.10.2:2000 > 198.18.10.11:8080, source a free one of 198.18.10.2:2000
verdict   transmit forward_new
`},
		{"203.0.113.9:1234 udp 198.18.0.53:53", `flow      203.0.113.9:1234 udp 198.18.0.53:53, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   dns: port 53, method ipip, pool far of 1 backend
source    allowed: any source is
hash      0x9d9c7c24009fb3af of the 5-tuple
table     slot 621 of 1009, table checksum 3f65bb1334b16072
backend   far1: 198.18.99.1, port as it comes, weight 1, up
next hop  inside, 02:00:00:00:02:fe
mtu       1500 on the way, room for packets of 1480
rewrite   ipip tunnel 198.18.10.1 > 198.18.99.1
verdict   transmit forward_new
`},
		{"203.0.113.9:1234 tcp 198.18.0.11:81", `flow      203.0.113.9:1234 tcp 198.18.0.11:81, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   private: port 80-81, method l2, session affinity, pool far of 1 backend
source    not allowed by the ranges 192.0.2.0/24
verdict   drop source_not_allowed
`},
		{"203.0.113.9:1234 tcp 198.18.0.11:99", `flow      203.0.113.9:1234 tcp 198.18.0.11:99, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   nobody: port all, method nat, pool nobody of 0 backends
source    allowed: any source is
hash      0x71e5a5c841a96763 of the 5-tuple
table     empty: no backend of the pool may be chosen
verdict   transmit refused_reply
`},
		{"[2001:db8:20::9]:1234 tcp [2001:db8::10]:443", `flow      [2001:db8:20::9]:1234 tcp [2001:db8::10]:443, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   six: port 443, method nat, pool six of 1 backend
source    allowed: any source is
hash      0xa62932bd87fd7abe of the 5-tuple
table     slot 654 of 1009, table checksum 7279c91930df79e2
backend   [2001:db8:10::1]:443: 2001:db8:10::1, port 443, weight 1, up
next hop  none: no route to the backend through an interface of the node
verdict   drop next_hop_unresolved
`},
		{"203.0.113.9:1234 sctp 198.18.0.10:80", `flow      203.0.113.9:1234 sctp 198.18.0.10:80, first packet, generation 1
address   VIP, ARP is answered, ping is answered
service   none has this protocol and port
verdict   drop service_not_found
`},
		{"203.0.113.9:1234 tcp 198.18.10.2:80", `flow      203.0.113.9:1234 tcp 198.18.10.2:80, first packet, generation 1
address   SNAT address: clients do not send to it
verdict   drop flow_not_found
`},
		{"203.0.113.9:1234 tcp 198.18.10.1:80", `flow      203.0.113.9:1234 tcp 198.18.10.1:80, first packet, generation 1
address   tunnel source: clients do not send to it
verdict   pass pass_not_ours
`},
		{"203.0.113.9:1234 tcp 198.18.0.99:80", `flow      203.0.113.9:1234 tcp 198.18.0.99:80, first packet, generation 1
address   none of ours: the host gets the packet
verdict   pass pass_not_ours
`},
		{"127.0.0.1:1234 tcp 198.18.0.10:80", `flow      127.0.0.1:1234 tcp 198.18.0.10:80, first packet, generation 1
packet    cannot be: source_invalid
verdict   drop source_invalid
`},
	} {
		r := fairlead(t, dir, append([]string{"explain", "-c", "f.toml"}, words(c.flow)...)...)
		if r.code != 0 || r.stderr != "" || r.stdout != c.want {
			t.Errorf("%s: exit status %d %s\n%s\nwant\n%s", c.flow, r.code, r.stderr, r.stdout, c.want)
		}
		r = fairlead(t, dir, append([]string{"explain", "-c", "f.toml", "-o", "json"}, words(c.flow)...)...)
		var e explain.Explanation
		if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || lastLine(c.want) != "verdict   "+e.Action+" "+e.Reason {
			t.Errorf("%s: %v\n%s", c.flow, err, r.stdout)
		}
	}
}

// TestExplainUsage asserts what is said of what is no flow.
func TestExplainUsage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f.toml", []byte(replayConfig))
	for _, c := range []struct{ args, want string }{
		{"203.0.113.9 tcp 198.18.0.10:80", `client: "203.0.113.9" is no address and port such as 192.0.2.1:80 or [2001:db8::1]:80`},
		{"203.0.113.9:1 tcp 2001:db8::1:80", `destination: "2001:db8::1:80" is no address and port such as 192.0.2.1:80 or [2001:db8::1]:80`},
		{"203.0.113.9:1 icmp 198.18.0.10:80", `unknown protocol "icmp": it is tcp, udp or sctp`},
		{"203.0.113.9:1 tcp [2001:db8::1]:80", `client and destination are of different families`},
		{"[fe80::1%eth0]:1 tcp [2001:db8::1]:80", `client: "[fe80::1%eth0]:1": an address with a zone is not forwarded`},
		{"[::ffff:1.2.3.4]:1 tcp 198.18.0.10:80", `client: "[::ffff:1.2.3.4]:1": write an IPv4 address as such`},
		{"203.0.113.9:1 tcp 198.18.0.10:80 -o text", `invalid argument "text" for "-o, --output" flag: it is table, wide, json or yaml`},
		{"203.0.113.9:1 tcp", `accepts 3 arg(s), received 2`},
	} {
		r := fairlead(t, dir, append([]string{"explain", "-c", "f.toml"}, words(c.args)...)...)
		if r.code != 2 || r.stdout != "" || r.stderr != "fairlead: "+c.want+"\n" {
			t.Errorf("%s: exit status %d, %q, want %q", c.args, r.code, r.stderr, c.want)
		}
	}
}

// TestDocumentedExamples runs what docs/replay.md shows. Which SNAT port is
// taken is not promised.
func TestDocumentedExamples(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "replay.md"))
	if err != nil {
		t.Fatal(err)
	}
	toml := regexp.MustCompile("(?s)```toml\n(.*?)```").FindSubmatch(page)
	if toml == nil {
		t.Fatal("the page shows no configuration")
	}
	dir := t.TempDir()
	write(t, dir, "fairlead.toml", toml[1])
	port := regexp.MustCompile(`(198\.18\.10\.2):\d+ >`)
	r := fairlead(t, dir, "explain", "--config", "fairlead.toml", "203.0.113.9:1234", "tcp", "198.18.0.10:80")
	shown := "    " + strings.ReplaceAll(strings.TrimSpace(r.stdout), "\n", "\n    ") + "\n"
	if r.code != 0 || !strings.Contains(port.ReplaceAllString(string(page), "$1:N >"), port.ReplaceAllString(shown, "$1:N >")) {
		t.Errorf("the page does not show what explain says:\n%s%s", r.stdout, r.stderr)
	}
	syn := packettest.TCP(packettest.AddrPort("203.0.113.9:1234"), packettest.AddrPort("198.18.0.10:80"))
	write(t, dir, "in.pcap", pcap(binary.LittleEndian, false, []captured{{0, syn}}))
	r = fairlead(t, dir, "replay", "--config", "fairlead.toml", "--in", "in.pcap", "--verdicts", "v.jsonl")
	if line := string(read(t, dir, "v.jsonl")); r.code != 0 || !strings.Contains(string(page), "    "+line) {
		t.Errorf("the page does not show the verdict:\n%s%s", line, r.stderr)
	}
}
