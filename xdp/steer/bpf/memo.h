// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Flow memos: how the plain packets of flows that user space has decided upon
// are forwarded, without going there. The memory is that of package
// dataplane/memo, which says what a memo is and when it holds; nothing is
// decided here. Whatever is not plain, and whatever no memo is certain about,
// goes up to the socket as it came.
//
// Entries and routes are read while user space may be writing them, in an order
// that is right where loads and stores are seen in the order in which they were
// made (x86-64): so memos are in use on that architecture only.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"
#include "scratch.h"

// MEMO_NONE says that a frame was not forwarded and has not been changed.
#define MEMO_NONE -1

// Parts of memo_entry.control.
#define MEMO_LEASE(control) ((__u32)((control) >> 32)) // in ms of the monotonic clock
#define MEMO_ROUTE(control) ((__u32)(control) >> 16)
#define MEMO_GENERATION(control) ((__u32)(control) >> 8 & 0xff)

// Parts of memo_entry.nat.
#define MEMO_PORTS(nat)    ((__u32)((nat) >> 32))
#define MEMO_DELTA_L3(nat) ((__u32)(nat) >> 16)
#define MEMO_DELTA_L4(nat) ((__u32)(nat) & 0xffff)

#define MEMO_FOR_KERNEL 1 // memo_entry.flags

// memo_entry.seen counts units of 2^8 ms.
#define MEMO_SEEN_UNIT 8

// memo_route.flags
#define MEMO_OUTER6    1
#define MEMO_IN_KERNEL 2

// memo_route.op
enum memo_op {
	MEMO_NAT_FORWARD = 1,
	MEMO_NAT_REPLY,
	MEMO_IPIP,
	MEMO_GUE,
	MEMO_L2,
};

// memo_entry is a memo. Numbers are in the machine's byte order: an address is
// two halves of which the first byte is the highest, IPv4 in mapped form.
struct memo_entry {
	__u64 key_hi; // the peer's address
	__u64 key_lo;
	__u64 key_rest; // peer port | local port | local ID | protocol, 8 bits | 0
	__u64 control;  // lease, 32 bits | route, 16 | generation, 8 | sequence, 8
	__u64 nat;      // source port | destination port | checksum deltas, network and transport
	__u64 via_hi;   // NAT forward: MAC of the client's last hop; reply: the client's address
	__u64 via_lo;   // NAT forward: interface the client's packets come in by
	__u8 flags;
	__u8 hits;  // user space's
	__u16 seen; // when a packet last went by the memo here
	__u32 entropy;
};

// memo_route is what the memos of one way out share. The compiler must not be
// given a chance to read any of it before state.
struct memo_route {
	__u32 state; // generation, 1 to 255; 0: not valid
	__u32 ifindex;
	__u32 mtu; // of the IP packet as received
	__u32 service;
	__u32 backend;
	__u16 port;
	__u8 op;
	__u8 flags;
	__u8 macs[12]; // destination, source
	__u16 gue_port;
	__u8 ttl;
	__u8 last;
	__u64 src[2];
	__u64 dst[2];
	__u32 sum; // IPIP, GUE over IPv4: of the outer header but for length, TOS, fragment fields, and IPIP's protocol
	__u32 next_hop;
	__u64 reserved[6];
};

// memo_count is what went by one route on one CPU.
struct memo_count {
	__u64 packets;
	__u64 bytes;
	__u64 bytes_sent;
	__u64 reserved[5];
};

_Static_assert(sizeof(struct memo_entry) == 64, "an entry is one cache line");
_Static_assert(sizeof(struct memo_route) == 128, "a route is two cache lines");
_Static_assert(sizeof(struct memo_count) == 64, "a count is one cache line");

// Set before loading.
const volatile __u32 memo_sets = 0;       // sets of two entries, a power of two; 0: no memos. How many are in use is the first word of the entry behind them
const volatile __u32 memo_routes_len = 0; // length of memo_routes
const volatile __u64 memo_seed[2] = {};
const volatile __u32 memo_tx_back = 0; // XDP_TX sends frames back by the program's interface

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memo_entry);
} memo_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memo_route);
} memo_routes SEC(".maps");

// memo_counts has memo_routes_len elements for each possible CPU.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memo_count);
} memo_counts SEC(".maps");

// memo_out has the interfaces that frames can be redirected to, by their own
// numbers.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} memo_out SEC(".maps");

// memo_hash places a key.
static __always_inline __u64 memo_hash(const struct scratch *s)
{
	__u64 h = (s->key_hi ^ memo_seed[0]) * 0x6a09e667f3bcc909;

	h = (h ^ h >> 32 ^ s->key_lo) * 0xbb67ae8584caa73b;
	h = (h ^ h >> 32 ^ s->key_rest ^ s->key_rest >> 32 ^ memo_seed[1]) * 0x3c6ef372fe94f82b;
	return h ^ h >> 32;
}

// memo_is_at reports whether the entry at a place is the key's. A key has four
// places: two neighbours in each of two sets. The control word is read before the
// key.
static __always_inline int memo_is_at(struct scratch *s, const int place)
{
	__u64 hash = s->hash;
	struct memo_entry *e;

	s->place = ((place < 2 ? hash : hash >> 32) & s->sets) * 2 + (hash >> 63 ^ (place & 1));
	settled();
	e = bpf_map_lookup_elem(&memo_entries, &scratch_of(s)->place);
	if (!e)
		return 0;
	s->control = *(volatile __u64 *)&e->control;
	settled();
	return e->key_rest == s->key_rest && e->key_lo == s->key_lo && e->key_hi == s->key_hi;
}

// memo_find looks in all four. It is a function of its own, and so has registers
// of its own; it does not return the entry, since the verifier would have a
// pointer that may be missing be looked up once more anyway.
static __noinline int memo_find(struct scratch *s)
{
	struct memo_entry *in_use;

	s->place = memo_sets * 2;
	settled();
	in_use = bpf_map_lookup_elem(&memo_entries, &scratch_of(s)->place);
	if (!in_use)
		return 0;
	s->sets = in_use->key_hi & (memo_sets - 1);
	s->hash = memo_hash(s);
	settled();
	return memo_is_at(s, 0) || memo_is_at(s, 1) || memo_is_at(s, 2) || memo_is_at(s, 3);
}

// memo_read takes over what the entry that was found says. It returns 0 if that
// has been written since its control word was read, or is not for the kernel.
static __always_inline int memo_read(struct scratch *s)
{
	struct memo_entry *e = bpf_map_lookup_elem(&memo_entries, &scratch_of(s)->place);
	__u8 flags;

	if (!e)
		return 0;
	flags = e->flags;
	s->nat = e->nat;
	s->via_hi = e->via_hi;
	s->via_lo = e->via_lo;
	s->entropy = e->entropy;
	settled();
	return *(volatile __u64 *)&e->control == s->control && flags & MEMO_FOR_KERNEL;
}

// memo_now is the time in ms, modulo 2^32. It may be late by a tick of the
// kernel's, which leases allow for.
static __always_inline __u32 memo_now(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000;
}

// memo_touch notes in the entry when it was used.
static __always_inline void memo_touch(struct scratch *s)
{
	struct memo_entry *e = bpf_map_lookup_elem(&memo_entries, &scratch_of(s)->place);
	__u16 unit = s->now >> MEMO_SEEN_UNIT;

	if (e && e->seen != unit)
		e->seen = unit;
}

// memo_counted counts a packet that has gone by a route.
static __always_inline void memo_counted(struct scratch *s)
{
	struct memo_count *count;

	s->index = MEMO_ROUTE(s->control) + bpf_get_smp_processor_id() * memo_routes_len;
	settled();
	count = bpf_map_lookup_elem(&memo_counts, &scratch_of(s)->index);
	if (!count) // cannot be: there is one for each CPU and route
		return;
	count->packets++;
	count->bytes += s->frame_len;
	count->bytes_sent += s->longer ? s->frame_len - s->excess + s->longer : s->frame_len;
}
