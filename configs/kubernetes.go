package configs

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// Kubernetes is how this node serves a Kubernetes cluster: the [kubernetes] table.
// Without the table it does not.
type Kubernetes struct {
	Enabled bool

	// How the API server is reached: by a kubeconfig, by its URL with the file of a
	// token, or, when neither is said, as the service account of the pod that the
	// node runs in.
	Kubeconfig string // absolute path
	Context    string // of the kubeconfig; empty: its current one
	Server     string // https URL
	TokenFile  string // absolute path; read again when it changes
	CAFile     string // absolute path; empty: the authorities of the system

	Class        string // spec.loadBalancerClass that is served
	DefaultClass bool   // Services without a class are served, too

	Method      KubernetesMethod // for Services that say nothing
	LocalMethod KubernetesMethod // the same, with externalTrafficPolicy: Local
	NodesVia    model.Method     // ipip, gue or l2
	Zone        string           // that this node is in; empty: zone hints are not followed
	NodeName    string           // of the node of Kubernetes that this one is; empty: NODE_NAME of the environment
	PodWeights  bool
	Annotations []string // the other load balancers whose annotations are read
	Gateway     bool

	Pools []KubernetesPool

	LeaseNamespace string // empty: that of the pod, or fairlead-system
	LeaseName      string
	Resync         time.Duration
}

// KubernetesMethod is how packets get to pods.
type KubernetesMethod string

// The ways to pods.
const (
	KubernetesPods      KubernetesMethod = "pods"
	KubernetesNodePorts KubernetesMethod = "nodeports"
	KubernetesNodes     KubernetesMethod = "nodes"
)

// Defaults and bounds of [kubernetes].
const (
	DefaultKubernetesClass = "fairlead.io/lb"
	DefaultLeaseName       = "fairlead"

	defaultResync = 10 * time.Minute
	minResync     = time.Minute
	maxResync     = 24 * time.Hour
	maxZone       = 63 // a label's value
)

// foreignAnnotations are the load balancers whose annotations can be read.
var foreignAnnotations = []string{"metallb", "cilium", "kube-vip", "purelb", "loxilb"}

func defaultKubernetes() Kubernetes {
	return Kubernetes{
		Class: DefaultKubernetesClass, Method: KubernetesPods, LocalMethod: KubernetesNodes, NodesVia: model.IPIP,
		Gateway: true, LeaseName: DefaultLeaseName, Resync: defaultResync,
	}
}

// kubernetes reads the table when all others have been read.
func (r *reader) kubernetes(root *table, c *Config) {
	out := &c.Kubernetes
	t := root.sub("kubernetes", "[kubernetes]")
	if t.data == nil {
		return
	}
	out.Enabled = true
	t.apiServer(out)
	out.Class = t.text("class", out.Class)
	if !t.bad && !qualifiedName(out.Class) {
		t.refuse("class", `%q is no class; write it as "fairlead.io/lb", or without a domain`, out.Class)
	}
	out.DefaultClass = t.flag("default_class", out.DefaultClass)
	methods := []KubernetesMethod{KubernetesPods, KubernetesNodePorts, KubernetesNodes}
	out.Method = choice(t, "method", out.Method, methods...)
	out.LocalMethod = choice(t, "local_method", out.LocalMethod, methods...)
	out.NodesVia = choice(t, "nodes_via", out.NodesVia, model.IPIP, model.GUE, model.L2)
	if out.Zone = t.text("zone", ""); !labelValue(out.Zone) {
		t.refuse("zone", "%q is no zone: at most %d letters, digits, \"-\", \"_\" and \".\", a letter or digit first and last", out.Zone, maxZone)
	}
	if out.NodeName = t.text("node_name", ""); out.NodeName != "" && !dnsName(out.NodeName) {
		t.refuse("node_name", "%q is no name of a node: at most 253 small letters, digits, \"-\" and \".\", a letter or digit first and last", out.NodeName)
	}
	out.PodWeights = t.flag("pod_weights", out.PodWeights)
	out.Annotations = t.foreignAnnotations("annotations")
	out.Gateway = t.flag("gateway", out.Gateway)
	if out.LeaseNamespace = t.text("lease_namespace", ""); out.LeaseNamespace != "" && !dnsLabel(out.LeaseNamespace) {
		t.refuse("lease_namespace", "%q is no name of a namespace: at most 63 small letters, digits and \"-\", a letter or digit first and last", out.LeaseNamespace)
	}
	if out.LeaseName = t.text("lease_name", out.LeaseName); !dnsName(out.LeaseName) {
		t.refuse("lease_name", "%q is no name of a Lease: at most 253 small letters, digits, \"-\" and \".\", a letter or digit first and last", out.LeaseName)
	}
	out.Resync = t.duration("resync", out.Resync, minResync, maxResync, time.Second)
	out.Pools = r.kubernetesPools(t.list("pool", "[[kubernetes.pool]]"), ownAddresses(&c.State))
	t.finish()
}

// apiServer reads where the API server is and by what it knows us.
func (t *table) apiServer(out *Kubernetes) {
	out.Kubeconfig = t.absolutePath("kubeconfig")
	out.Context = t.text("context", "")
	out.Server = t.text("server", "")
	out.TokenFile = t.absolutePath("token_file")
	out.CAFile = t.absolutePath("ca_file")
	if t.bad {
		return
	}
	if out.Server != "" {
		u, err := url.Parse(out.Server)
		switch {
		case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			t.refuse("server", `%q is no API server; write it as "https://192.0.2.1:6443"`, out.Server)
		case out.Kubeconfig != "":
			t.refuse("server", "the kubeconfig says where the API server is; give one of the two")
		case out.TokenFile == "":
			t.refuse("server", "token_file is missing: nobody is let in without a token")
		}
		return
	}
	for _, key := range []string{"token_file", "ca_file"} {
		if text, _ := t.data[key].(string); text != "" {
			t.refuse(key, "has a meaning only together with server")
		}
	}
	if out.Context != "" && out.Kubeconfig == "" {
		t.refuse("context", "has a meaning only together with kubeconfig")
	}
}

// absolutePath gives a plain absolute path, or "".
func (t *table) absolutePath(key string) string {
	text := t.text(key, "")
	if text != "" && !plainPath(text) {
		t.refuse(key, "%q is not a plain absolute path", text)
	}
	return text
}

func (t *table) foreignAnnotations(key string) []string {
	var out []string
	for i, w := range t.words(key) {
		switch {
		case !slices.Contains(foreignAnnotations, w):
			t.refuseElement(key, i, "%q is none of %s%s", w, quoted(foreignAnnotations), t.r.suggest(w, foreignAnnotations, `"%s"`))
		case slices.Contains(out, w):
			t.refuseElement(key, i, "%q is listed twice", w)
		default:
			out = append(out, w)
		}
	}
	return out
}

const (
	lowerAlphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"
	alphanumeric      = lowerAlphanumeric + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// bounded reports whether a text is of 1 to most bytes of some set, and begins
// and ends with a letter or digit.
func bounded(text string, most int, set string) bool {
	if text == "" || len(text) > most {
		return false
	}
	for _, r := range text {
		if !strings.ContainsRune(set, r) {
			return false
		}
	}
	return strings.IndexByte(alphanumeric, text[0]) >= 0 && strings.IndexByte(alphanumeric, text[len(text)-1]) >= 0
}

// dnsLabel reports whether a text is a DNS label as Kubernetes has them (RFC 1123).
func dnsLabel(text string) bool { return bounded(text, 63, lowerAlphanumeric+"-") }

// dnsName reports whether a text is a DNS subdomain as Kubernetes has them.
func dnsName(text string) bool {
	if len(text) > 253 {
		return false
	}
	for part := range strings.SplitSeq(text, ".") {
		if !bounded(part, 253, lowerAlphanumeric+"-") {
			return false
		}
	}
	return true
}

// labelValue reports whether a text may be the value of a label.
func labelValue(text string) bool { return text == "" || bounded(text, maxZone, alphanumeric+"-_.") }

// qualifiedName reports whether a text may be the key of a label, with or without
// a domain before it.
func qualifiedName(text string) bool {
	domain, name, has := strings.Cut(text, "/")
	if !has {
		name = domain
	} else if !dnsName(domain) {
		return false
	}
	return bounded(name, 63, alphanumeric+"-_.")
}
