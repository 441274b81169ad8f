package configs

import (
	"fmt"
	"strings"
	"testing"
)

// renderKubernetes writes [kubernetes] out.
func renderKubernetes(k *Kubernetes, line func(format string, args ...any), quote func(string) string, texts func([]string) string) {
	if !k.Enabled {
		return
	}
	line("[kubernetes]\nkubeconfig = %s\ncontext = %s\nserver = %s\ntoken_file = %s\nca_file = %s", quote(k.Kubeconfig), quote(k.Context), quote(k.Server), quote(k.TokenFile), quote(k.CAFile))
	line("class = %s\ndefault_class = %t\nmethod = %q\nlocal_method = %q\nnodes_via = %q\nzone = %s\nnode_name = %s", quote(k.Class), k.DefaultClass, k.Method, k.LocalMethod, k.NodesVia, quote(k.Zone), quote(k.NodeName))
	line("pod_weights = %t\nannotations = %s\ngateway = %t\nlease_namespace = %s\nlease_name = %s\nresync = %q", k.PodWeights, texts(k.Annotations), k.Gateway, quote(k.LeaseNamespace), quote(k.LeaseName), k.Resync)
	for _, p := range k.Pools {
		var ranges []string
		for _, r := range p.Ranges {
			ranges = append(ranges, r.First.String()+"-"+r.Last.String())
		}
		line("[[kubernetes.pool]]\nname = %s\naddresses = %s\nauto_assign = %t\navoid_buggy_ips = %t\npriority = %d", quote(p.Name), texts(ranges), p.AutoAssign, p.AvoidBuggy, p.Priority)
		line("namespace_selector = %s\nservice_selector = %s\nnamespaces = %s", quote(p.NamespaceSelector), quote(p.ServiceSelector), texts(p.Namespaces))
	}
}

func TestKubernetesErrors(t *testing.T) {
	const k = "[kubernetes]\n"
	pool := func(lines string) string { return k + "[[kubernetes.pool]]\nname = \"p\"\n" + lines }
	for _, c := range []struct{ name, toml, want string }{
		{"in a pod", k, ``},
		{"no table", "kubernetes = true\n", `1:14: kubernetes: expected a table, found a boolean`},
		{"unknown key", k + "kube_config = \"/k\"\n", `2:1: unknown key "kube_config" in [kubernetes] (did you mean "kubeconfig"?)`},
		{"paths", k + "kubeconfig = \"~/.kube/config\"\ntoken_file = \"/a//b\"\nca_file = \"ca\"\n", `2:14: kubeconfig: "~/.kube/config" is not a plain absolute path
3:14: token_file: "/a//b" is not a plain absolute path
4:11: ca_file: "ca" is not a plain absolute path`},
		{"plain HTTP", k + "server = \"http://192.0.2.1\"\ntoken_file = \"/t\"\n", `2:10: server: "http://192.0.2.1" is no API server; write it as "https://192.0.2.1:6443"`},
		{"no scheme", k + "server = \"192.0.2.1:6443\"\ntoken_file = \"/t\"\n", `2:10: server: "192.0.2.1:6443" is no API server; write it as "https://192.0.2.1:6443"`},
		{"password in the URL", k + "server = \"https://a:b@192.0.2.1\"\ntoken_file = \"/t\"\n", `2:10: server: "https://a:b@192.0.2.1" is no API server; write it as "https://192.0.2.1:6443"`},
		{"two ways", k + "kubeconfig = \"/k\"\nserver = \"https://192.0.2.1\"\n", `3:10: server: the kubeconfig says where the API server is; give one of the two`},
		{"no token", k + "server = \"https://192.0.2.1\"\n", `2:10: server: token_file is missing: nobody is let in without a token`},
		{"without server", k + "token_file = \"/t\"\nca_file = \"/c\"\ncontext = \"c\"\n", `2:14: token_file: has a meaning only together with server
3:11: ca_file: has a meaning only together with server
4:11: context: has a meaning only together with kubeconfig`},
		{"class", k + "class = \"Fairlead.io/lb\"\n", `2:9: class: "Fairlead.io/lb" is no class; write it as "fairlead.io/lb", or without a domain`},
		{"choices", k + "method = \"pod\"\nlocal_method = \"l2\"\nnodes_via = \"nat\"\n", `2:10: method: "pod" is none of "pods", "nodeports", "nodes" (did you mean "pods"?)
3:16: local_method: "l2" is none of "pods", "nodeports", "nodes"
4:13: nodes_via: "nat" is none of "ipip", "gue", "l2"`},
		{"zone", k + "zone = \"-a\"\n", `2:8: zone: "-a" is no zone: at most 63 letters, digits, "-", "_" and ".", a letter or digit first and last`},
		{"node name", k + "node_name = \"LB1\"\n", `2:13: node_name: "LB1" is no name of a node: at most 253 small letters, digits, "-" and ".", a letter or digit first and last`},
		{"annotations", k + "annotations = [\"metalb\", \"cilium\", \"cilium\"]\n", `2:16: annotations: "metalb" is none of "metallb", "cilium", "kube-vip", "purelb", "loxilb" (did you mean "metallb"?)
2:36: annotations: "cilium" is listed twice`},
		{"lease", k + "lease_namespace = \"a.b\"\nlease_name = \"A\"\n", `2:19: lease_namespace: "a.b" is no name of a namespace: at most 63 small letters, digits and "-", a letter or digit first and last
3:14: lease_name: "A" is no name of a Lease: at most 253 small letters, digits, "-" and ".", a letter or digit first and last`},
		{"resync", k + "resync = \"10s\"\n", `2:10: resync: 10s is out of range; it must be 1m to 24h`},

		{"pool without all", k + "[[kubernetes.pool]]\n", `2:1: missing key "name" in [[kubernetes.pool]]
2:1: missing key "addresses" in [[kubernetes.pool]]`},
		{"one pool", k + "[kubernetes.pool]\nname = \"p\"\n", `2:1: pool: is a list: write [[kubernetes.pool]]`},
		{"pool names", k + "[[kubernetes.pool]]\nname = \"P\"\naddresses = [\"192.0.2.1\"]\n[[kubernetes.pool]]\nname = \"p\"\naddresses = [\"192.0.2.2\"]\n[[kubernetes.pool]]\nname = \"p\"\naddresses = [\"192.0.2.3\"]\n",
			`3:8: name: "P" is no name of a pool: at most 253 small letters, digits, "-" and ".", a letter or digit first and last
9:8: name: pool "p" is listed twice`},
		{"no addresses", pool("addresses = []\n"), `4:13: addresses: is empty: the pool has no address`},
		{"addresses", pool("addresses = [\"x\", \"192.0.2.1/24\", \"192.0.2.9-192.0.2.1\", \"192.0.2.1-2001:db8::1\", \"::ffff:192.0.2.1\"]\n"), `4:14: addresses: "x" is not an IP address
4:19: addresses: "192.0.2.1/24" has bits set after its prefix; write it as 192.0.2.0/24
4:35: addresses: the range "192.0.2.9-192.0.2.1" ends before it begins
4:58: addresses: the range "192.0.2.1-2001:db8::1" has ends of two families
4:83: addresses: "::ffff:192.0.2.1" is an IPv4-mapped IPv6 address; write it as 192.0.2.1`},
		{"no VIPs", pool("addresses = [\"127.0.0.1\", \"220.0.0.0-230.0.0.0\", \"fe80::/64\", \"0.0.0.0/0\", \"::\"]\n"), `4:14: addresses: 127.0.0.1 can be no VIP: those of 127.0.0.0/8 are loopback addresses
4:27: addresses: 220.0.0.0-230.0.0.0 has addresses that can be no VIP: those of 224.0.0.0/4 are multicast addresses
4:50: addresses: fe80::-fe80::ffff:ffff:ffff:ffff has addresses that can be no VIP: those of fe80::/10 are link-local
4:63: addresses: 0.0.0.0-255.255.255.255 has addresses that can be no VIP: those of 0.0.0.0/8 are no host's
4:76: addresses: :: can be no VIP: those of ::/128 are no host's`},
		{"overlaps", pool("addresses = [\"192.0.2.0/24\", \"192.0.2.9\"]\n[[kubernetes.pool]]\nname = \"q\"\naddresses = [\"192.0.2.200-192.0.3.1\"]\n"), `4:30: addresses: "192.0.2.9" has addresses of "192.0.2.0/24", too`},
		{"overlapping pools", pool("addresses = [\"192.0.2.0/24\"]\n[[kubernetes.pool]]\nname = \"q\"\naddresses = [\"2001:db8::1\", \"192.0.2.200-192.0.3.1\"]\n"), `7:29: addresses: "192.0.2.200-192.0.3.1" has addresses of pool "p", too`},
		{"the node's own", pool("addresses = [\"192.0.2.0/24\", \"2001:db8::/64\"]\n[[snat]]\naddress = \"192.0.2.6-192.0.2.7\"\n[tunnel]\nsource_ipv6 = \"2001:db8::5\"\n"), `4:14: addresses: 192.0.2.6 is a SNAT address of this node and can be no VIP
4:30: addresses: 2001:db8::5 is the source of tunnel packets of this node and can be no VIP`},
		{"priority", pool("addresses = [\"192.0.2.1\"]\npriority = 1000001\n"), `5:12: priority: 1000001 is out of range; it must be -1000000 to 1000000`},
		{"namespaces", pool("addresses = [\"192.0.2.1\"]\nnamespaces = [\"a\", \"a\", \"B\"]\n"), `5:20: namespaces: "a" is listed twice
5:25: namespaces: "B" is no name of a namespace: at most 63 small letters, digits and "-", a letter or digit first and last`},
		{"selectors", pool("addresses = [\"192.0.2.1\"]\nnamespace_selector = \"a=b c\"\nservice_selector = \"a in b\"\n"), `5:22: namespace_selector: "a=b c" is no selector: "b c" is no value of a label; write it as "team=web,env!=test,tier in (a, b),!internal"
6:20: service_selector: "a in b" is no selector: "a in b" is no key of a label; write it as "team=web,env!=test,tier in (a, b),!internal"`},
		{"ranges", pool("addresses = [" + strings.Repeat("\"192.0.2.1\", ", 4097) + "]\n"), `4:13: addresses: there are more than 4096 addresses, ranges and prefixes in all pools`},
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

func TestTooManyKubernetesPools(t *testing.T) {
	var b strings.Builder
	b.WriteString("[kubernetes]\n")
	for i := range maxKubernetesPools + 1 {
		fmt.Fprintf(&b, "[[kubernetes.pool]]\nname = \"p%d\"\naddresses = [\"2001:db8::%x\"]\n", i, i+1)
	}
	_, err := Parse("f", []byte(b.String()))
	if want := "f:3003:8: name: there are 1001 pools; there may be 1000"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBadSelector(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " ": "", "a": "", "!a": "", "a=b": "", "a==b": "", "a!=b": "", "a=": "", "a in (b)": "", "a notin (b,c)": "", "x.io/a in (b, c) , !d": "",
		"a,":          "there is nothing between two commas, or at an end",
		"a,,b":        "there is nothing between two commas, or at an end",
		"=b":          `"" is no key of a label`,
		"a!b":         `"!" is before a key, or before "="`,
		"a in (b":     "parentheses do not match",
		"a in ((b))":  "parentheses do not match",
		"a on (b)":    `what is in parentheses follows "in" or "notin"`,
		"in (b)":      `what is in parentheses follows "in" or "notin"`,
		"a in (b c)":  `"b c" is no value of a label`,
		"/a":          `"/a" is no key of a label`,
		"A.io/a=b":    `"A.io/a" is no key of a label`,
		"a=-":         `"-" is no value of a label`,
		"a in (b) c":  "parentheses do not match",
		"!a=b":        `"a=b" is no key of a label`,
		"a=b=c":       `"b=c" is no value of a label`,
		"é=b":         `"é" is no key of a label`,
		"a=b)":        `"b)" is no value of a label`,
		"a notin(b)":  "",
		"a in (b),(c": `what is in parentheses follows "in" or "notin"`,
	} {
		if got := badSelector(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
