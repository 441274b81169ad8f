package configs

import (
	"strings"
	"testing"
)

// renderCluster writes [cluster] out.
func renderCluster(c *Cluster, line func(format string, args ...any), quote func(string) string) {
	if !c.Enabled {
		return
	}
	line("[cluster]\nkey_file = %s\ngossip_port = %d\nstream_port = %d\nprobe_interval = %q\nhold_down = %q", quote(c.KeyFile), c.GossipPort, c.StreamPort, c.ProbeInterval, c.HoldDown)
	if c.Bind.IsValid() {
		line("bind = %q", c.Bind)
	}
	if c.Advertise.IsValid() {
		line("advertise = %q", c.Advertise)
	}
	var seeds []string
	for _, s := range c.Seeds {
		seeds = append(seeds, quote(s.String()))
	}
	line("seeds = [%s]", strings.Join(seeds, ", "))
	line("[cluster.health]\ncheckers = %d\ntunnel_checkers = %d", c.Health.Checkers, c.Health.TunnelCheckers)
	line("[cluster.flows]\nenabled = %t\nwindow = %q\nhold = %q", c.Flows.Enabled, c.Flows.Window, c.Flows.Hold)
}

func TestClusterErrors(t *testing.T) {
	for _, c := range []struct{ name, toml, want string }{
		{"empty", "[cluster]\n", `1:1: missing key "key_file" in [cluster]`},
		{"no table", "cluster = 1\n", `1:11: cluster: expected a table, found an integer`},
		{"unknown key", "[cluster]\nkey_file = \"/k\"\nseed = []\n", `3:1: unknown key "seed" in [cluster] (did you mean "seeds"?)`},
		{"paths and addresses", "[cluster]\nkey_file = \"cluster.key\"\nbind = \"lb1\"\nadvertise = \"0.0.0.0\"\n", `2:12: key_file: "cluster.key" is not a plain absolute path
3:8: bind: "lb1" is not an IP address
4:13: advertise: nobody reaches 0.0.0.0`},
		{"families", "[cluster]\nkey_file = \"/k\"\nbind = \"::\"\nadvertise = \"192.0.2.1\"\n", ``},
		{"other family", "[cluster]\nkey_file = \"/k\"\nbind = \"::1\"\nadvertise = \"192.0.2.1\"\n", `4:13: advertise: 192.0.2.1 is not of the family of bind, ::1`},
		{"multicast", "[cluster]\nkey_file = \"/k\"\nbind = \"224.0.0.1\"\n", `3:8: bind: 224.0.0.1 is not an address of this node`},
		{"ports", "[cluster]\nkey_file = \"/k\"\ngossip_port = 0\nstream_port = 65536\n", `3:15: gossip_port: 0 is out of range; it must be 1 to 65535
4:15: stream_port: 65536 is out of range; it must be 1 to 65535`},
		{"one port for both", "[cluster]\nkey_file = \"/k\"\nstream_port = 7946\n", `3:15: stream_port: 7946 is the gossip_port, which takes TCP connections, too`},
		{"probe interval", "[cluster]\nkey_file = \"/k\"\nprobe_interval = \"20ms\"\n", `3:18: probe_interval: 20ms is out of range; it must be 50ms to 10s`},
		{"hold-down", "[cluster]\nkey_file = \"/k\"\nhold_down = \"2h\"\n", `3:13: hold_down: 2h is out of range; it must be 0s to 1h`},
		{"flows", "[cluster]\nkey_file = \"/k\"\n[cluster.flows]\nwindow = \"1s\"\nhold = \"x\"\nenable = true\n", `4:10: window: 1s is out of range; it must be 5s to 24h
5:8: hold: "x" is not a duration; write it as "500ms", "30s", "5m" or "1h30m"
6:1: unknown key "enable" in [cluster.flows] (did you mean "enabled"?)`},
		{"health", "[cluster]\nkey_file = \"/k\"\n[cluster.health]\ncheckers = -1\ntunnel_checkers = 1001\nchecker = 1\n", `4:12: checkers: -1 is out of range; it must be 0 to 1000
5:19: tunnel_checkers: 1001 is out of range; it must be 0 to 1000
6:1: unknown key "checker" in [cluster.health] (did you mean "checkers"?)`},
		{"no directory", "[state]\ndirectory = \"\"\n[cluster]\nkey_file = \"/k\"\n", `2:13: directory: a node of a cluster keeps its key and what all nodes share in it; "" is none`},
		{"name with a slash", "[node]\nname = \"lb/1\"\n[cluster]\nkey_file = \"/k\"\n", `2:8: name: "lb/1" is no name for a node of a cluster: it has something else than letters, digits, "-", "_" and "."`},
		{"name with a dot first", "[node]\nname = \".lb\"\n[cluster]\nkey_file = \"/k\"\n", `2:8: name: ".lb" is no name for a node of a cluster: it begins with neither a letter nor a digit`},
		{"long name", "[node]\nname = \"" + strings.Repeat("n", 64) + "\"\n[cluster]\nkey_file = \"/k\"\n", `2:8: name: "` + strings.Repeat("n", 64) + `" is no name for a node of a cluster: it is longer than 63 bytes`},
		{"seeds", "[cluster]\nkey_file = \"/k\"\nseeds = [\"a b\", \"lb2:0\", \"lb2:x\", \"a:b:c\", \"lb2\", \"lb2:7947\", \"0.0.0.0\", \"-lb\", \"\"]\n", `3:10: seeds: "a b" is no seed: its host is neither a name nor an address
3:17: seeds: "lb2:0" is no seed: "0" is no port
3:26: seeds: "lb2:x" is no seed: "x" is no port
3:35: seeds: "a:b:c" is no seed: write it as "lb2.example.net", "lb2.example.net:7947", "192.0.2.2:7947" or "[2001:db8::2]:7947"
3:51: seeds: "lb2:7947" is listed twice
3:63: seeds: "0.0.0.0" is no seed: nobody is reached at 0.0.0.0
3:74: seeds: "-lb" is no seed: its host is neither a name nor an address
3:81: seeds: "" is no seed: its host is neither a name nor an address`},
		{"too many seeds", "[cluster]\nkey_file = \"/k\"\nseeds = [" + strings.Repeat("\"a\",", 65) + "]\n", `3:9: seeds: 65 seeds are too many; there may be 64`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f.toml", []byte(c.toml))
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), "f.toml:", "")
			}
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
