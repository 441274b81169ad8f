package model

import (
	"net/netip"
	"time"
)

// CheckType is what a health check asks of a backend.
type CheckType string

// The types of health checks.
const (
	CheckTCP   CheckType = "tcp"   // a connection is established
	CheckHTTP  CheckType = "http"  // an HTTP request is answered as expected
	CheckHTTPS CheckType = "https" // the same over TLS
	CheckTLS   CheckType = "tls"   // a TLS handshake succeeds
	CheckGRPC  CheckType = "grpc"  // the standard gRPC health service says SERVING
	CheckUDP   CheckType = "udp"   // a datagram is answered, as expected
	CheckICMP  CheckType = "icmp"  // an echo request is answered
	CheckDNS   CheckType = "dns"   // a query is answered as expected
	CheckExec  CheckType = "exec"  // a program ends with exit status 0
)

// CheckPath is the way that checks take to a backend.
type CheckPath string

// The ways of checks.
const (
	// PathAuto is that of the clients' packets: direct for nat; for ipip, gue
	// and l2 the check is sent to the VIP by the service's method, so that a
	// backend that does not decapsulate or lacks the VIP is found dead.
	PathAuto   CheckPath = "auto"
	PathDirect CheckPath = "direct" // to the backend's own address
)

// Check is how the backends of a pool are checked for being alive. Zero values
// of its numbers and times are defaults (WithDefaults).
type Check struct {
	Type     CheckType
	Path     CheckPath
	Port     uint16 // 0: the backend's, else the first port of the service
	Interval time.Duration
	Timeout  time.Duration // of one try; at most Interval
	Rise     int           // successes in a row after which a dead backend is alive
	Fall     int           // failures in a row after which a live backend is dead
	Jitter   int           // per cent of Interval that a try may come earlier or later
	Source   netip.Addr    // that checks of its family come from; the zero Addr: as the routes say
	// KeepFlows: a backend that is found dead gets no new flows and keeps those that
	// it has. It is for checks that ask whether a backend wants new flows, which one
	// that is about to go does not.
	KeepFlows bool

	HTTP HTTPCheck // of http and https
	TLS  TLSCheck  // of https, tls, and grpc when its UseTLS is set
	GRPC GRPCCheck
	UDP  UDPCheck
	DNS  DNSCheck
	Exec []string // program and arguments
}

// HTTPCheck is the request, and what its answer must be.
type HTTPCheck struct {
	Method string // default GET
	Path   string // default "/"
	Host   string // default the address that is asked
	Status []StatusRange
	Body   string // regular expression that the first 64 KiB of the body must match; empty: any
}

// StatusRange is an inclusive range of HTTP status codes.
type StatusRange struct {
	First, Last int
}

// TLSCheck says how TLS servers are asked.
type TLSCheck struct {
	ServerName string // SNI, and the name that a verified certificate must have
	Verify     bool   // whether the certificate must be valid
	CAFile     string // PEM file of the authorities to verify with; empty: the system's
}

// GRPCCheck is what the gRPC health service is asked for.
type GRPCCheck struct {
	Service string // empty: the server as a whole
	UseTLS  bool
}

// UDPCheck is a datagram and its answer.
type UDPCheck struct {
	Send   string // bytes
	Expect string // bytes that the answer must begin with; empty: any answer
}

// DNSCheck is a query and its answer.
type DNSCheck struct {
	Name  string // default "."
	Type  string // default "A", for "." "NS"
	RCode string // that the answer must have; default NOERROR
}

// AdminState is what an operator wants of a backend, over what its source
// declares.
type AdminState string

// The admin states.
const (
	Enabled  AdminState = "enabled"  // as declared
	Drained  AdminState = "drained"  // no new flows; those it has go on until Deadline
	Disabled AdminState = "disabled" // no flows at all
)

// BackendKey names one backend of one pool.
type BackendKey struct {
	Pool     string
	Endpoint netip.AddrPort // the backend's address and port
}

// BackendSetting is an operator's setting for one backend. It outlives reloads
// and restarts, and goes with the backend.
type BackendSetting struct {
	BackendKey
	State    AdminState
	Deadline time.Time // of Drained: flows end then; the zero time: never
	Weight   *int      // in place of the declared one; nil: the declared one
}
