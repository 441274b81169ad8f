package v1alpha1

import (
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddressReservation says who holds one address. Its name follows from the address
// (ReservationName), so that the API server lets one writer make it and no second:
// that is what keeps an address from having two owners. Reservations are
// cluster-scoped.
//
// The writer makes a reservation before it writes an address into a status, and
// removes it when the last holder is gone, unless the address is to be kept. An
// operator makes one to keep an address for an object that need not exist yet, or
// for nobody.
type AddressReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AddressReservationSpec `json:"spec"`
}

// AddressReservationSpec is who holds the address.
type AddressReservationSpec struct {
	Address string `json:"address"` // in canonical form
	// Pool it was taken from; "" when no pool has the address.
	Pool string `json:"pool,omitempty"`
	// Retain: the address is reserved because ReservedFor has held it and has asked
	// for that. It ends when ReservedFor has the address again. What an operator
	// reserves has no Retain, and stays until the reservation is deleted.
	Retain bool `json:"retain,omitempty"`
	// Holders are the objects that have the address, sorted by kind, namespace and
	// name. Several share it.
	Holders []Holder `json:"holders,omitempty"`
	// ReservedFor is the only object that may take the address when nobody holds it.
	// Nil in a reservation without holders: nobody may.
	ReservedFor *ObjectReference `json:"reservedFor,omitempty"`
}

// Holder is an object that has an address, and what decides whether others may
// share the address with it.
type Holder struct {
	Kind      string `json:"kind"` // Service or Gateway
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// SharingKey: holders share an address when they have the same one.
	SharingKey string `json:"sharingKey,omitempty"`
	// SharingNamespaces are further namespaces the holder shares with; "*" is all.
	SharingNamespaces []string     `json:"sharingNamespaces,omitempty"`
	Ports             []HolderPort `json:"ports,omitempty"`
	// Retain: the address stays reserved for the holder when it lets go of it.
	Retain bool `json:"retain,omitempty"`
	// Claimed is when the writer last decided that the holder is to have the
	// address although the holder's status does not say so yet. It makes every claim
	// a change of the object, so that whoever believes the claim to be a leftover
	// finds out.
	Claimed *metav1.MicroTime `json:"claimed,omitempty"`
}

// HolderPort is a port that a holder serves at its address.
type HolderPort struct {
	Protocol string `json:"protocol"` // TCP, UDP or SCTP
	Port     int32  `json:"port"`
}

// ObjectReference names an object an address is kept for.
type ObjectReference struct {
	Kind      string `json:"kind,omitempty"` // Service (the default) or Gateway
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// The kinds of holders.
const (
	KindService = "Service"
	KindGateway = "Gateway"
)

// AddressReservationList is a list of reservations.
type AddressReservationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AddressReservation `json:"items"`
}

// ReservationName is the name of the reservation of an address: the address itself
// for IPv4, and for IPv6 all its digits with "-" for ":", because names in
// Kubernetes have no colons: 2001-0db8-0000-0000-0000-0000-0000-0001.
func ReservationName(address netip.Addr) string {
	if address.Is4() {
		return address.String()
	}
	return strings.ReplaceAll(address.StringExpanded(), ":", "-")
}

// ReservationAddress is the address a name stands for. Only what ReservationName
// returns is a name.
func ReservationAddress(name string) (netip.Addr, error) {
	address, err := netip.ParseAddr(strings.ReplaceAll(name, "-", ":"))
	if err != nil || ReservationName(address) != name {
		return netip.Addr{}, fmt.Errorf("%q is not the name of an address reservation", name)
	}
	return address, nil
}
