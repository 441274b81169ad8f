// Package gateway serves the Gateway API: GatewayClasses of our controller, their
// Gateways with TCP and UDP listeners, and the TCPRoutes and UDPRoutes that attach
// to them.
//
// It is split as Services are. Resolve is pure: from all objects it works out which
// routes attach where, what every status is to say, which addresses are asked for,
// and, with the endpoints of Services, what each Gateway puts in force. Every node
// does that, and puts in force what Gateways' status.addresses name. Room keeps the
// objects of the API server at hand, and Writer, on the elected node alone, writes
// statuses and has addresses assigned.
package gateway

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// Names that are ours.
const (
	// ControllerName is spec.controllerName of the GatewayClasses that are served.
	ControllerName gatewayv1.GatewayController = kube.Domain + "/gateway"
	// Finalizer keeps a Gateway that is being deleted until no node serves its
	// addresses any more.
	Finalizer = kube.Domain + "/gateway-address-cleanup"
)

// Kinds of the Gateway API that are read.
const (
	KindGateway  gatewayv1.Kind = "Gateway"
	KindTCPRoute gatewayv1.Kind = "TCPRoute"
	KindUDPRoute gatewayv1.Kind = "UDPRoute"
)

// Endpoints are the backends that one port of a Service stands for, of one address
// family, by the options' method: named after their pods or nodes, with weight 0
// where one drains. What it reports is about the Service.
type Endpoints func(svc *corev1.Service, port corev1.ServicePort, family corev1.IPFamily, opts kube.Options) ([]model.Backend, []kube.Problem)

// Input is all that a translation may look at. Nothing of it is changed.
type Input struct {
	Settings  kube.Settings
	Classes   []*gatewayv1.GatewayClass
	Gateways  []*gatewayv1.Gateway
	TCPRoutes []*gatewayv1.TCPRoute
	UDPRoutes []*gatewayv1.UDPRoute
	Grants    []*gatewayv1.ReferenceGrant

	// Bundle is the release of the Gateway API whose definitions are installed, as
	// "v1.6.3"; "" when that is not known.
	Bundle string
	// Served are the kinds that the API server serves in version v1.
	Served map[gatewayv1.Kind]bool

	// Namespace has the labels of a namespace, and whether there is one.
	Namespace func(name string) (labels map[string]string, exists bool)
	// Service is a Service, nil when there is none.
	Service func(types.NamespacedName) *corev1.Service
	// Endpoints is asked when a Gateway's group is made, not by Resolve.
	Endpoints Endpoints
	// Options reads what annotations say.
	Options func(annotations map[string]string) (kube.Options, []kube.Problem)
}

// RouteKey is which route it is.
type RouteKey struct {
	Kind gatewayv1.Kind // KindTCPRoute or KindUDPRoute
	types.NamespacedName
}

// String is the key in messages: "TCPRoute default/web".
func (k RouteKey) String() string { return string(k.Kind) + " " + k.Namespace + "/" + k.Name }

// Addressing is how far the assignment of a Gateway's addresses is. The zero
// value: it has not been tried yet.
type Addressing struct {
	// Reason and Message say why there is none: reasons of the condition
	// Programmed, such as AddressNotUsable.
	Reason, Message string
}

// Progress is where a Gateway's group is in force.
type Progress struct {
	Nodes, Of int      // in force on Nodes of Of nodes; Of 0: not known
	Why       []string // for each of the other nodes a sentence
	// Settled: waiting changes nothing. Otherwise nodes are about to follow, and what
	// was said of the same generation before still holds.
	Settled bool
}

// Moment is what statuses depend on besides the objects.
type Moment struct {
	Now        metav1.Time // becomes lastTransitionTime of conditions that change
	Addressing func(kube.Key) Addressing
	Progress   func(kube.Key) Progress
}

// KeyOf is the key of a Gateway.
func KeyOf(gw *gatewayv1.Gateway) kube.Key {
	return kube.Key{Kind: kube.Gateway, Namespace: gw.Namespace, Name: gw.Name}
}
