// Package kube is what the rooms of k8ssync know of each other: how objects are
// called, what the operator has set, what an object asks for, what is wrong with
// it, and how the data path and the other nodes are reached. It has no code that
// does anything.
package kube

import (
	"net/netip"
	"time"

	"fairlead/controlplane/model"
)

// Names in Kubernetes that are ours.
const (
	Domain    = "fairlead.io"
	Class     = Domain + "/lb" // the default of spec.loadBalancerClass that we serve
	Finalizer = "service.kubernetes.io/load-balancer-cleanup"
	// Source is how the desired state calls what comes from Kubernetes.
	Source = "kubernetes"
)

// Kind is what sort of object asks for something.
type Kind string

// The kinds of objects that hold addresses and are put in force.
const (
	Service Kind = "service"
	Gateway Kind = "gateway"
)

// Key is which object it is.
type Key struct {
	Kind            Kind
	Namespace, Name string
}

// String is the key in messages: "service default/web".
func (k Key) String() string { return string(k.Kind) + " " + k.Namespace + "/" + k.Name }

// Group is the name of what the object puts in force. The names of its services
// and pools begin with it.
func (k Key) Group() string { return "k8s/" + string(k.Kind) + "/" + k.Namespace + "/" + k.Name }

// Compare orders keys.
func (k Key) Compare(o Key) int {
	switch {
	case k == o:
		return 0
	case k.Kind < o.Kind, k.Kind == o.Kind && k.Namespace < o.Namespace, k.Kind == o.Kind && k.Namespace == o.Namespace && k.Name < o.Name:
		return -1
	}
	return 1
}

// Method is how packets get from a node of Fairlead to pods.
type Method string

// The ways to the pods.
const (
	// Pods: to the addresses of EndpointSlices, by NAT. Pods must be routable.
	Pods Method = "pods"
	// NodePorts: to a port of Kubernetes' nodes, by NAT.
	NodePorts Method = "nodeports"
	// Nodes: to Kubernetes' nodes with the VIP kept, by Settings.NodesVia. What
	// owns the VIP there is kube-proxy, or its replacement, from the Service's
	// status. The client's address is preserved and replies go straight to it.
	Nodes Method = "nodes"
)

// IPMode is the ipMode of an address in a Service's status (KEP-1860).
type IPMode string

// The modes.
const (
	ModeVIP   IPMode = "VIP"   // nodes see the VIP as destination: kube-proxy may answer for it
	ModeProxy IPMode = "Proxy" // they do not: clients in the cluster are to come by us, too
)

// Flavor is another load balancer whose annotations are read when it is switched on.
type Flavor string

// The flavors.
const (
	MetalLB Flavor = "metallb"
	Cilium  Flavor = "cilium"
	KubeVIP Flavor = "kube-vip"
	PureLB  Flavor = "purelb"
	LoxiLB  Flavor = "loxilb"
)

// Settings are what the operator has set: the [kubernetes] table of the
// configuration.
type Settings struct {
	Enabled    bool
	Kubeconfig string // path; "" and no Server: the service account of the pod we run in
	Context    string // of the kubeconfig; "": its current one
	Server     string // URL of the API server, with TokenFile and CAFile in place of a kubeconfig
	TokenFile  string // path; read again when it changes
	CAFile     string // path

	Class        string // spec.loadBalancerClass that is served; default Class
	DefaultClass bool   // Services without a class are served, too

	Method      Method       // for Services that say nothing; default Pods
	LocalMethod Method       // the same, with externalTrafficPolicy: Local; default Nodes. Pods cannot preserve the client's address
	NodesVia    model.Method // l2, ipip or gue: how method nodes reaches a node; default ipip
	Zone        string       // that this node is in, for zone hints; "": none are followed
	// NodeName is what Kubernetes calls this node, when it is one of the cluster's: what
	// runs on it is behind no interface that the data path drives, and is left out. "":
	// it is none of them.
	NodeName string

	PodWeights bool     // weights are read from an annotation of pods, which costs a watch of all pods
	Flavors    []Flavor // whose annotations are read besides ours
	Gateway    bool     // the Gateway API is served

	Pools []AddressPool // besides those that are objects in Kubernetes

	LeaseNamespace string        // of the Lease by which nodes elect who writes; default "fairlead-system", in a pod its own namespace
	LeaseName      string        // default "fairlead"
	Resync         time.Duration // between looks at everything although nothing has changed; default 10 min
}

// AddressPool is a set of addresses that VIPs are taken from: a table of the
// configuration, or an object in Kubernetes.
type AddressPool struct {
	Name string
	// Ranges are inclusive, do not overlap, and each is of one family.
	Ranges     []Range
	AutoAssign bool // Services that ask for no pool may get an address of it
	AvoidBuggy bool // .0 and .255 of IPv4 are not given out
	// Priority: of several pools, the greatest number is tried first.
	Priority int
	// Selectors are those of Kubernetes in its text form ("team=web,env!=test");
	// "" selects all.
	NamespaceSelector, ServiceSelector string
	Namespaces                         []string // only these; empty: all
}

// Range is an inclusive range of addresses of one family.
type Range struct{ First, Last netip.Addr }

// Options are what a Service says by annotations, ours and those of the flavors
// that are switched on, and by spec.loadBalancerIP. Zero values are "as the
// settings say".
type Options struct {
	// Which address.
	Addresses []netip.Addr // asked for; at most one of each family
	Pool      string       // asked for
	// SharingKey: Services of one namespace with the same key may share a VIP when
	// their ports do not collide.
	SharingKey       string
	SharingNamespace []string // namespaces whose Services may share it as well; "*": any
	Retain           bool     // the address stays reserved when the Service is deleted
	// Hold: what it asks of addresses is wrong. None is to be assigned until that is
	// corrected, for an address never moves once it is; those that it has stay.
	Hold bool

	// How packets get to pods.
	Method       Method
	NodesVia     model.Method
	IPMode       IPMode
	Check        *model.Check // of pods, or nodes
	DisableCheck bool         // none, also where one would be made by default
	IdleTimeout  time.Duration
	DrainTimeout time.Duration
	Gone         model.GonePolicy
	SlowStart    time.Duration
	FailAction   model.FailAction
}

// Severity is how bad a problem is.
type Severity string

// The severities, which are the types of Kubernetes' Events.
const (
	Normal  Severity = "Normal"
	Warning Severity = "Warning"
)

// Problem is something that whoever made the object should know. It becomes an
// Event, and a part of a condition's message.
type Problem struct {
	Severity Severity
	Reason   string // CamelCase, one of a fixed set: it is what alerts are made of
	Message  string // a sentence, with the field or annotation it is about
}

// Sink takes what is to be in force. Its methods may be called from any
// goroutine; each returns when the data path goes by it.
type Sink interface {
	// Replace makes groups all that there are. Those that cannot be in force are
	// refused by name; an earlier group of the same name stays then, if it can.
	Replace(groups []model.Group) (refused map[string]error, err error)
	// Change sets some groups and removes others; the rest stays. Groups that were
	// refused are tried again with every change. With an error nothing has changed.
	Change(set []model.Group, remove []string) (refused map[string]error, err error)
}

// Fellows are the nodes of Fairlead's own cluster, this one among them. A node
// that is alone has fellows, too: itself.
type Fellows interface {
	// Self is this node's name.
	Self() string
	// Live are the names of the nodes that serve, sorted.
	Live() []string
	// Publish makes report what this node tells all others of its synchronisation
	// with Kubernetes, in place of what it told before.
	Publish(report []byte) error
	// Reports are what live nodes tell, by name.
	Reports() map[string][]byte
	// Watch has f called after changes of Live and Reports. f is not to block.
	Watch(f func()) (stop func())
}
