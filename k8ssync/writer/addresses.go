package writer

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/kube"
)

// Request is what an object asks for by way of addresses.
type Request struct {
	Key             kube.Key
	UID             types.UID
	Families        []corev1.IPFamily // in the order of spec.ipFamilies
	Required        bool              // all of Families, or nothing
	Options         kube.Options
	Ports           []corev1.ServicePort
	Local           bool // externalTrafficPolicy: Local
	Labels          map[string]string
	NamespaceLabels map[string]string
	Held            []netip.Addr // by its status, which is the record
}

// Assignment is what it gets.
type Assignment struct {
	Addresses []netip.Addr   // in the order of Request.Families; empty: Problems say why
	Problems  []kube.Problem // with the addresses that it asks for, or has
}

// Addresses are who holds which address. Its methods are called concurrently,
// though not for one key.
type Addresses interface {
	// Sync begins: all objects that hold addresses or ask for some. They go on to
	// hold what their status says, or is reserved for them; nothing else is
	// assigned. What is reserved for others is given back.
	Sync(ctx context.Context, all []Request) error
	// Ensure has an object hold addresses. An object keeps what it has as long as
	// that can be. What it has to leave stays reserved for it until Release.
	Ensure(ctx context.Context, r Request) (Assignment, error)
	// Release has an object hold nothing any more but what is to be kept. One that
	// holds nothing is fine.
	Release(ctx context.Context, key kube.Key, keep ...netip.Addr) error
	// Holds are the addresses that are reserved for an object.
	Holds(key kube.Key) []netip.Addr
}
