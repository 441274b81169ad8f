package ledger

import (
	"net/netip"
	"time"

	"fairlead/k8ssync/kube"
)

// Family is a family of addresses.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String is "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// FamilyOf is the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Port is one that an object serves at its address.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Port     uint16
}

// Request is what an object asks for.
type Request struct {
	Key kube.Key
	// UID of the object. It is only recorded: an object that is made again under the
	// same name goes on with what is recorded for the name.
	UID string
	// Families that it wants an address of, the primary one first.
	Families []Family
	// Required: all of Families, or nothing new.
	Required bool
	// One: of Families only the first that can be had.
	One bool
	// Options are, of these: Addresses, Pool, SharingKey, SharingNamespace, Retain and
	// Hold.
	Options         kube.Options
	Ports           []Port
	Labels          map[string]string // of the object
	NamespaceLabels map[string]string // of its namespace
	// Held are the addresses that the object's status records.
	Held []netip.Addr
	// Created: where two objects claim one address, the older one has it.
	Created time.Time
}

// Decision is what an object gets.
type Decision struct {
	// Addresses that it is to have, in the order of Request.Families.
	Addresses []netip.Addr
	// Refusals are why it does not get what it asks for. With Addresses: why it has
	// these and not others.
	Refusals []Refusal
}

// Reason is why a request was refused. Alerts are made of reasons: they do not
// change.
type Reason string

// The reasons.
const (
	NoPool                    Reason = "NoPool"                    // there are no pools
	NoSuchPool                Reason = "NoSuchPool"                // it names one that is not there
	SelectorMismatch          Reason = "SelectorMismatch"          // pools are not for this object
	NotAutoAssigned           Reason = "NotAutoAssigned"           // pools are to be named
	FamilyUnavailable         Reason = "FamilyUnavailable"         // pools have no addresses of the family
	PoolExhausted             Reason = "PoolExhausted"             // no address is free
	AddressNotInPool          Reason = "AddressNotInPool"          // it asks for an address of no pool, or of another one
	AddressReserved           Reason = "AddressReserved"           // kept for another object, or for none
	AddressTaken              Reason = "AddressTaken"              // held by another object
	SharingKeyMismatch        Reason = "SharingKeyMismatch"        // held by one with another sharing key
	SharingNamespaceMismatch  Reason = "SharingNamespaceMismatch"  // held by one of a namespace that it does not share with
	PortCollision             Reason = "PortCollision"             // held by one with the same port
	AddressOutsidePools       Reason = "AddressOutsidePools"       // what it holds is in no pool any more
	AddressHeldAgainstOptions Reason = "AddressHeldAgainstOptions" // what it holds is of a pool that is not for it any more
)

// Refusal is one reason, and the sentence that goes with it.
type Refusal struct {
	Reason  Reason
	Message string
}

// Problem is the refusal for the eyes of whoever made the object.
func (r Refusal) Problem() kube.Problem {
	return kube.Problem{Severity: kube.Warning, Reason: string(r.Reason), Message: r.Message}
}

// Holder is an object that has an address, and what decides whether others may have
// it, too.
type Holder struct {
	Key               kube.Key
	UID               string
	SharingKey        string
	SharingNamespaces []string
	Ports             []Port
	// Retain: when it lets go of the address, that stays reserved for it.
	Retain bool
}

// Reservation is all that is known of an address that is not free.
type Reservation struct {
	Address netip.Addr
	// Holders, sorted by key. None: it is reserved.
	Holders []Holder
	// For is the only object that may have the address when nobody holds it; nil:
	// none may.
	For *kube.Key
	// Retained: it is reserved because For, its last holder, has asked so; that ends
	// when For has it again. Otherwise an operator has reserved it, for ever.
	Retained bool
}
