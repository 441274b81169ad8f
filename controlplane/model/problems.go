package model

import "net/netip"

// AddressProblem says what is wrong with an address that is to be a VIP or a
// backend, as Validate would ("is a loopback address"); "" when nothing is.
func AddressProblem(a netip.Addr) string { return badAddress(a) }

// NameProblem says what is wrong with the name of a service, pool or backend, as
// Validate would ("is longer than 253 bytes"); "" when nothing is.
func NameProblem(name string) string { return badName(name) }
