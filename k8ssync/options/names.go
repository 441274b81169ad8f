// Package options reads what a Service, or a Gateway, says by annotations: ours,
// and those of other load balancers that are switched on. It is pure. A value that
// is wrong is a problem, and the default holds.
package options

import "fairlead/k8ssync/kube"

// The annotations of Services, and of Gateways.
const (
	Addresses         = kube.Domain + "/addresses"
	Pool              = kube.Domain + "/pool"
	SharingKey        = kube.Domain + "/sharing-key"
	SharingNamespaces = kube.Domain + "/sharing-namespaces"
	RetainAddress     = kube.Domain + "/retain-address"

	Method        = kube.Domain + "/method"
	NodesVia      = kube.Domain + "/nodes-via"
	IPMode        = kube.Domain + "/ip-mode"
	IdleTimeout   = kube.Domain + "/idle-timeout"
	DrainTimeout  = kube.Domain + "/drain-timeout"
	OnBackendGone = kube.Domain + "/on-backend-gone"
	SlowStart     = kube.Domain + "/slow-start"
	FailAction    = kube.Domain + "/fail-action"

	HealthCheck            = kube.Domain + "/health-check"
	HealthCheckPort        = HealthCheck + "-port"
	HealthCheckInterval    = HealthCheck + "-interval"
	HealthCheckTimeout     = HealthCheck + "-timeout"
	HealthCheckRise        = HealthCheck + "-rise"
	HealthCheckFall        = HealthCheck + "-fall"
	HealthCheckPath        = HealthCheck + "-path"
	HealthCheckHost        = HealthCheck + "-host"
	HealthCheckStatus      = HealthCheck + "-status"
	HealthCheckGRPCService = HealthCheck + "-grpc-service"
	HealthCheckDNSName     = HealthCheck + "-dns-name"
	HealthCheckSend        = HealthCheck + "-send"
	HealthCheckExpect      = HealthCheck + "-expect"
)

// Weight is the annotation of pods: their share, 0 to model.MaxWeight.
const Weight = kube.Domain + "/weight"

// Reasons of problems.
const (
	UnknownAnnotation       = "UnknownAnnotation"       // nobody reads it
	InvalidAnnotation       = "InvalidAnnotation"       // its value is wrong
	ConflictingAnnotations  = "ConflictingAnnotations"  // two say something else
	AnnotationWithoutEffect = "AnnotationWithoutEffect" // with what else is said, it does nothing
	InvalidLoadBalancerIP   = "InvalidLoadBalancerIP"   // spec.loadBalancerIP is not an address
)

// Annotation is what there is to know of one.
type Annotation struct {
	Name    string
	Values  string // what it may be, with unit and bounds
	Default string
	Meaning string

	set func(d *draft, value string) error
}

// All are the annotations of Services and Gateways in the order of the
// documentation.
func All() []Annotation { return annotations[:] }
