// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Admission of new connections. What comes when a socket's ring is full is lost,
// whatever it is; so that a flood of SYNs does not fill it, what begins a TCP
// connection takes a credit. The queue's worker grants as many as there is room
// beyond what it keeps for connections that are established. That holds whether
// the worker is too slow or not run at all: it has only granted what there was
// room for.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"
#include "scratch.h"

// Room for the queues of so many interfaces.
#define ADMISSION_INTERFACES 16
#define ADMISSION_QUEUES     256

// admission is a queue's account. The program writes the first cache line, the
// worker the second. Both count modulo 2^32.
struct admission {
	__u32 used; // credits taken
	__u32 reserved[15];
	__u32 granted;  // credits given
	__u32 enforced; // 0: nobody grants, and all are admitted
	__u32 reserved2[14];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, ADMISSION_INTERFACES * ADMISSION_QUEUES);
	__type(key, __u32);
	__type(value, struct admission);
} admissions SEC(".maps");

// admission_base is set before loading: where the interface's queues begin, or
// ADMISSION_NONE.
#define ADMISSION_NONE 0xffffffff
const volatile __u32 admission_base = ADMISSION_NONE;

// begins_tcp reports whether a segment begins a connection. A packet too short
// for TCP's header is left to user space.
static __always_inline int begins_tcp(void *l4, void *end)
{
	struct tcp *tcp = l4;

	return (void *)(tcp + 1) <= end && (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

// begins_ipv4 and begins_ipv6 report whether a packet begins a TCP connection,
// or is one of those few of which that cannot be told at a glance.
static __always_inline int begins_ipv4(void *l3, void *end)
{
	struct ipv4 *ip = l3;

	if ((void *)(ip + 1) > end || ip->protocol != PROTOCOL_TCP)
		return 0;
	return ip->version_ihl != 0x45 || ip->frag & ~bpf_htons(IPV4_DF) || begins_tcp(ip + 1, end);
}

static __always_inline int begins_ipv6(void *l3, void *end)
{
	struct ipv6 *ip = l3;

	if ((void *)(ip + 1) > end)
		return 0;
	switch (ip->next_header) {
	case PROTOCOL_TCP:
		return begins_tcp(ip + 1, end);
	case PROTOCOL_HOPOPT:
	case PROTOCOL_ROUTING:
	case PROTOCOL_FRAGMENT:
	case PROTOCOL_DESTINATION:
		return 1;
	}
	return 0;
}

static __always_inline int begins_ip(__be16 type, void *l3, void *end)
{
	if (type == bpf_htons(ETHERTYPE_IPV4))
		return begins_ipv4(l3, end);
	return type == bpf_htons(ETHERTYPE_IPV6) && begins_ipv6(l3, end);
}

static __noinline int begins_tagged(struct xdp_md *ctx)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct vlan *outer = (void *)(eth + 1), *inner = outer + 1;

	if ((void *)(outer + 1) > end || !is_vlan(eth->type))
		return 0;
	if (!is_vlan(outer->type))
		return begins_ip(outer->type, outer + 1, end);
	return (void *)(inner + 1) <= end && begins_ip(inner->type, inner + 1, end);
}

// admitted takes a credit of the queue's, if the frame needs one. It is 0 when
// there is none left.
static __always_inline int admitted(struct xdp_md *ctx, struct scratch *s)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct admission *a;
	int begins;

	if ((void *)(eth + 1) > end)
		return 1;
	if (eth->type == bpf_htons(ETHERTYPE_IPV4))
		begins = begins_ipv4(eth + 1, end);
	else if (eth->type == bpf_htons(ETHERTYPE_IPV6))
		begins = begins_ipv6(eth + 1, end);
	else
		begins = begins_tagged(ctx);
	if (!begins)
		return 1;
	s->index = admission_base + ctx->rx_queue_index;
	settled();
	a = bpf_map_lookup_elem(&admissions, &scratch_of(s)->index);
	if (!a || !*(volatile __u32 *)&a->enforced)
		return 1;
	if ((__s32)(*(volatile __u32 *)&a->granted - a->used) <= 0)
		return 0;
	a->used++;
	return 1;
}
