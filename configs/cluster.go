package configs

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cluster is how this node is one of several: the [cluster] table. Without the
// table a node is alone.
type Cluster struct {
	Enabled       bool
	KeyFile       string        // absolute path of the cluster key
	Bind          netip.Addr    // that gossip and streams are received on; the zero Addr: all
	GossipPort    int           // UDP and TCP
	StreamPort    int           // TCP
	Advertise     netip.Addr    // that others reach this node at; the zero Addr: found out
	Seeds         []Seed        // where others may be found, besides those known from before
	ProbeInterval time.Duration // what the time to detect a dead node follows from
	HoldDown      time.Duration // how long this node is well before it takes VIPs from others
	Health        ClusterHealth
	Flows         ClusterFlows
}

// Seed is where another node takes streams: a host name, of which all addresses
// are tried, or an address.
type Seed struct {
	Host string
	Port int
}

// String is the seed as it is written.
func (s Seed) String() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Defaults and bounds of [cluster].
const (
	DefaultGossipPort = 7946
	DefaultStreamPort = 7947

	maxSeeds        = 64
	minProbeEvery   = 50 * time.Millisecond
	maxProbeEvery   = 10 * time.Second
	defaultProbe    = 100 * time.Millisecond
	defaultHoldDown = 5 * time.Second
	maxHoldDown     = time.Hour
	maxMemberName   = 63
	memberNameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

func defaultCluster() Cluster {
	return Cluster{GossipPort: DefaultGossipPort, StreamPort: DefaultStreamPort, ProbeInterval: defaultProbe, HoldDown: defaultHoldDown, Health: defaultClusterHealth(), Flows: defaultClusterFlows()}
}

// BadMemberName says what keeps a node of that name from being in a cluster; ""
// when nothing does. The name is in certificates and in the keys of what all
// nodes share.
func BadMemberName(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > maxMemberName:
		return "it is longer than 63 bytes"
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(memberNameRunes, r) }):
		return `it has something else than letters, digits, "-", "_" and "."`
	case strings.ContainsRune("-_.", rune(name[0])):
		return "it begins with neither a letter nor a digit"
	}
	return ""
}

func (r *reader) cluster(root *table, c *Config) {
	out := &c.Cluster
	t := root.sub("cluster", "[cluster]")
	if t.data == nil {
		return
	}
	out.Enabled = true
	t.require("key_file")
	if out.KeyFile = t.text("key_file", ""); out.KeyFile == "" && t.data["key_file"] == "" || out.KeyFile != "" && !plainPath(out.KeyFile) {
		t.refuse("key_file", "%q is not a plain absolute path", out.KeyFile)
	}
	out.Bind, _ = t.nodeAddress("bind", true)
	out.GossipPort = t.integer("gossip_port", out.GossipPort, 1, 65535)
	out.StreamPort = t.integer("stream_port", out.StreamPort, 1, 65535)
	if !t.bad && out.GossipPort == out.StreamPort {
		t.refuse("stream_port", "%d is the gossip_port, which takes TCP connections, too", out.StreamPort)
	}
	out.Advertise, _ = t.nodeAddress("advertise", false)
	all := out.Bind == netip.IPv6Unspecified() // which is all of IPv4, too
	if out.Bind.IsValid() && out.Advertise.IsValid() && !all && out.Bind.Is4() != out.Advertise.Is4() {
		t.refuse("advertise", "%s is not of the family of bind, %s", out.Advertise, out.Bind)
	}
	out.Seeds = t.seeds("seeds", out.StreamPort)
	out.ProbeInterval = t.duration("probe_interval", out.ProbeInterval, minProbeEvery, maxProbeEvery, time.Millisecond)
	out.HoldDown = t.duration("hold_down", out.HoldDown, 0, maxHoldDown, time.Millisecond)
	t.clusterHealth(&out.Health)
	t.clusterFlows(&out.Flows)
	if name := c.Node.Name; name != "" && BadMemberName(name) != "" {
		r.report(root.valueAt("node.name"), "name: %q is no name for a node of a cluster: %s", name, BadMemberName(name))
	}
	if c.Store.Directory == "" {
		r.report(root.valueAt("state.directory"), "directory: a node of a cluster keeps its key and what all nodes share in it; \"\" is none")
	}
	t.finish()
}

// nodeAddress reads an address of this node. The unspecified address is none.
func (t *table) nodeAddress(key string, anyAddress bool) (netip.Addr, bool) {
	v, there := t.get(key)
	text, isText := v.(string)
	switch {
	case !there || isText && text == "":
		return netip.Addr{}, false
	case !isText:
		t.refuse(key, "expected a string, found %s", kind(v))
		return netip.Addr{}, false
	}
	a, wrong := parseAddress(text)
	switch {
	case wrong != "":
		t.refuse(key, "%s", wrong)
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		t.refuse(key, "%s is not an address of this node", a)
	case a.IsUnspecified() && !anyAddress:
		t.refuse(key, "nobody reaches %s", a)
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// seeds reads a list of hosts with or without ports.
func (t *table) seeds(key string, port int) []Seed {
	words := t.words(key)
	if len(words) > maxSeeds {
		t.refuse(key, "%d seeds are too many; there may be %d", len(words), maxSeeds)
		return nil
	}
	var out []Seed
	for i, w := range words {
		s, wrong := parseClusterSeed(w, port)
		switch {
		case wrong != "":
			t.refuseElement(key, i, "%q is no seed: %s", w, wrong)
		case slices.Contains(out, s):
			t.refuseElement(key, i, "%q is listed twice", w)
		default:
			out = append(out, s)
		}
	}
	return out
}

func parseClusterSeed(text string, port int) (s Seed, wrong string) {
	s = Seed{Host: text, Port: port}
	if _, err := netip.ParseAddr(text); err != nil && strings.ContainsRune(text, ':') {
		host, number, err := net.SplitHostPort(text)
		if err != nil {
			return s, `write it as "lb2.example.net", "lb2.example.net:7947", "192.0.2.2:7947" or "[2001:db8::2]:7947"`
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 65535 {
			return s, strconv.Quote(number) + " is no port"
		}
		s.Host, s.Port = host, n
	}
	if a, err := netip.ParseAddr(s.Host); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return s, "nobody is reached at " + a.String()
		}
		s.Host = a.String()
		return s, ""
	}
	if !hostName(s.Host) {
		return s, "its host is neither a name nor an address"
	}
	return s, ""
}

// hostName reports whether a name can be looked up (RFC 1123, section 2.1).
func hostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return r == '.' || !strings.ContainsRune(memberNameRunes, r) }) {
			return false
		}
	}
	return true
}
