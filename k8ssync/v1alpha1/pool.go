package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddressPool is a set of addresses that VIPs are taken from. Pools are
// cluster-scoped. Where two overlap, the first by name has the addresses that both
// list, and the status of both tells of it.
type AddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddressPoolSpec   `json:"spec"`
	Status AddressPoolStatus `json:"status,omitzero"`
}

// AddressPoolSpec is what an operator says of a pool.
type AddressPoolSpec struct {
	// Addresses are prefixes ("192.0.2.0/24"), inclusive ranges
	// ("192.0.2.10-192.0.2.20") and single addresses, of one family or both.
	Addresses []string `json:"addresses"`
	// AutoAssign: objects that ask for no pool may get an address of this one. Nil
	// is true.
	AutoAssign *bool `json:"autoAssign,omitempty"`
	// AvoidBuggyIPs keeps the addresses of IPv4 that end in .0 and .255 out of the
	// pool.
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`
	// Priority: of the pools that an object may use, the greatest number is tried
	// first.
	Priority int32 `json:"priority,omitempty"`
	// NamespaceSelector: only objects in namespaces with such labels. Nil: all.
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// ServiceSelector: only Services (and Gateways) with such labels. Nil: all.
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`
	// Namespaces: only objects in these. Empty: all.
	Namespaces []string `json:"namespaces,omitempty"`
}

// AddressPoolStatus is what the writer of Fairlead says of a pool.
type AddressPoolStatus struct {
	// Conditions has one of the types Condition...
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	IPv4       *AddressCounts     `json:"ipv4,omitempty"` // nil: the pool has none
	IPv6       *AddressCounts     `json:"ipv6,omitempty"` // nil: the pool has none
	// Conflicts are addresses of this pool that another one lists as well.
	Conflicts []PoolConflict `json:"conflicts,omitempty"`
}

// AddressCounts are the addresses of one family of a pool:
// Total = Assigned + Reserved + Free. A count beyond 2^63-1 is told as 2^63-1.
type AddressCounts struct {
	Total    int64 `json:"total"`
	Assigned int64 `json:"assigned"` // held by Services and Gateways
	Reserved int64 `json:"reserved"` // held by nobody, and kept for somebody or for nobody
	Free     int64 `json:"free"`
}

// PoolConflict says which addresses of a pool another one lists as well.
type PoolConflict struct {
	Pool      string `json:"pool"`      // the other one
	Addresses string `json:"addresses"` // "192.0.2.10-192.0.2.20", or one address
	Owner     string `json:"owner"`     // which of the two has them
}

// The conditions of a pool.
const (
	// ConditionReady: addresses are given out of the pool.
	ConditionReady = "Ready"
	// ConditionConflict: another pool lists some of the pool's addresses.
	ConditionConflict = "Conflict"
	// ConditionExhausted: no address of some family of the pool is free.
	ConditionExhausted = "Exhausted"
)

// AddressPoolList is a list of pools.
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AddressPool `json:"items"`
}
