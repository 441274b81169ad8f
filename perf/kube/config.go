package kube

import (
	"errors"
	"net/netip"

	"fairlead/perf/lab"
)

// The address plan of Kubernetes in the lab. It does not overlap with the
// segments of package lab.
var (
	// Services4 and Services6 are the ranges that ClusterIPs come from.
	Services4 = netip.MustParsePrefix("198.19.0.0/16")
	Services6 = netip.MustParsePrefix("2001:db8:5e::/112")
	// Pods4 and Pods6 hold the pods of all nodes: each node has a /24 and a /64 of
	// them.
	Pods4 = netip.MustParsePrefix("198.18.128.0/18")
	Pods6 = netip.MustParsePrefix("2001:db8:b0::/48")

	// loneAddress is the API server's on a host of its own.
	loneAddress = netip.MustParseAddr("198.18.255.1")
)

// Ports of the servers, on their host.
const (
	APIPort        = 6443
	etcdPort       = 2379
	etcdPeerPort   = 2380
	controllerPort = 10257
	schedulerPort  = 10259
)

// Config says what a control plane is made of. The zero value is an API server
// with its etcd, on a host of its own.
type Config struct {
	// Host is where the servers run, and Address one of its addresses, by which
	// pods, nodes and balancers reach the API server (at APIPort). Without a host
	// the control plane makes its own, which only this process can reach.
	Host    *lab.Host
	Address netip.Addr

	// Controllers starts the controller manager, too: EndpointSlices, Deployments,
	// garbage collection, service accounts, node lifecycle and all the others.
	Controllers bool

	// Scheduler starts the scheduler, which gives pods their nodes.
	Scheduler bool

	// NodePorts is the range that node ports come from; "" is Kubernetes' own,
	// 30000-32767.
	NodePorts string

	// Audit is a policy (YAML, audit.k8s.io/v1) by which requests are recorded;
	// "" records none. AuditLog says where.
	Audit string

	// Flags are further flags of the API server and of the controller manager.
	APIFlags, ControllerFlags []string
}

func (c Config) validate() error {
	if (c.Host != nil) != c.Address.IsValid() {
		return errors.New("a host needs an address, and an address its host")
	}
	return nil
}
