package writer

import (
	"context"
	"net/netip"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
)

// Request is what an object asks for by way of addresses.
type Request = allocate.Request

// Assignment is what it gets.
type Assignment = allocate.Assignment

// Addresses are who holds which address: an *allocate.Allocator. Its methods are
// called concurrently, though not for one key, and not during Sync.
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
