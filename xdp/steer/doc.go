// Package steer loads and drives the XDP program that takes the traffic of
// Fairlead's addresses from the interfaces: frames for a VIP or a SNAT address,
// and ARP requests and neighbour solicitations for the addresses this node
// answers for, go to the AF_XDP socket of the queue they arrived on; all other
// frames go to the host untouched.
//
// Each interface has a program of its own with its own table of sockets; the
// tables of addresses and of denied sources are shared. With a pin path, links
// and tables outlive the process: while nobody runs, the program follows the
// fail action of each address, and the next process adopts what it finds and
// replaces the program atomically.
//
// With flow memos (Config.Memo) the program forwards plain packets of flows that
// user space has decided upon by itself, before the socket: see bpf/memo.h, and
// package dataplane/memo for what lies in the memory that both share. Nothing of
// that is pinned. A program that its process has left goes on by the memos it
// has until their leases have run out.
//
// Loading needs CAP_BPF and CAP_NET_ADMIN. With them alone the kernel guards a
// program against speculation; bpf/scratch.h says how it is written so that this
// costs next to nothing.
//
// The order at start is Open, SetLocals, Attach, DetachStale, SetSocket: an
// address is known before a program asks for it.
//
// VLAN tags are read from the frame. Where the NIC strips them
// (rx-vlan-offload), neither the program nor the socket ever sees them, so that
// the offload must be off on interfaces with tagged VIP traffic.
package steer
