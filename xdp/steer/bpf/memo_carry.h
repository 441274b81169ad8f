// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The way of a plain packet by its flow memo: is it plain, is there a memo, does
// the memo hold, does the route take the packet; only then is it changed.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "memo.h"
#include "memo_rewrite.h"
#include "packet.h"
#include "scratch.h"

// plain_ipv4 and plain_ipv6 read the IP header at l3: whole, without options or
// extension headers, with a right checksum, and with a TTL that lasts for
// another hop. They return the protocol, or 0 if it is otherwise.
static __always_inline __u8 plain_ipv4(const struct ipv4 *ip, struct scratch *s)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	if (fold(sum) != 0xffff)
		return 0;
	settled();
	if (ip->version_ihl != 0x45 ||
	    ip->frag & ~bpf_htons(IPV4_DF) || ip->ttl <= 1)
		return 0;
	s->key_hi = 0;
	s->key_lo = 0xffff00000000 | bpf_ntohl(ip->src);
	s->ip_len = bpf_ntohs(ip->total_len);
	s->tos = ip->tos;
	s->dont_fragment = !!(ip->frag & bpf_htons(IPV4_DF));
	return ip->protocol;
}

static __always_inline __u8 plain_ipv6(const struct ipv6 *ip, struct scratch *s)
{
	const __u64 *src = (const __u64 *)&ip->src;
	__u32 first = bpf_ntohl(ip->version_class_flow);

	if (first >> 28 != 6 || ip->hop_limit <= 1)
		return 0;
	s->key_hi = bpf_be64_to_cpu(src[0]);
	s->key_lo = bpf_be64_to_cpu(src[1]);
	s->ip_len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	s->tos = first >> 20;
	s->dont_fragment = 1;
	return ip->next_header;
}

// plain_tcp and plain_udp say of a transport header whether it lies in the
// packet, of whose bytes n begin with it, and may belong to a segment in the
// middle of a connection.
static __always_inline int plain_tcp(const struct tcp *tcp, __u32 n)
{
	__u32 header = tcp->offset >> 4 << 2;

	return header >= sizeof(*tcp) && header <= n &&
	       !(tcp->flags & (TCP_SYN | TCP_FIN | TCP_RST)) && tcp->flags & TCP_CLASSIC;
}

static __always_inline int plain_udp(const struct udp *udp, __u32 n)
{
	__u32 len = bpf_ntohs(udp->len);

	return len >= sizeof(*udp) && len <= n;
}

// plain reads a frame and reports whether a memo may forward it.
static __always_inline int plain(struct xdp_md *ctx, const int v6, struct scratch *s)
{
	const __u32 ip_header = v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	struct ethernet *eth;
	struct udp *udp;
	struct tcp *tcp;
	void *l3, *end;
	__u8 protocol;
	__u32 n;

	s->frame_len = bpf_xdp_get_buff_len(ctx);
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	l3 = eth + 1;
	udp = l3 + ip_header;
	tcp = l3 + ip_header;
	if ((void *)(udp + 1) > end || eth->dst[0] & 1)
		return 0;
	protocol = v6 ? plain_ipv6(l3, s) : plain_ipv4(l3, s);
	if (s->ip_len < ip_header + sizeof(*udp) || sizeof(*eth) + s->ip_len > s->frame_len)
		return 0;
	s->excess = s->frame_len - sizeof(*eth) - s->ip_len;
	n = s->ip_len - ip_header;
	s->is_tcp = protocol == PROTOCOL_TCP;
	if (s->is_tcp) {
		if ((void *)(tcp + 1) > end || n < sizeof(*tcp) || !plain_tcp(tcp, n))
			return 0;
	} else if (protocol != PROTOCOL_UDP || !plain_udp(udp, n)) {
		return 0;
	}
	s->key_rest = (__u64)bpf_ntohl(*(__be32 *)udp) << 32 | (__u32)s->local << 16 | (__u32)protocol << 8;
	settled();
	return 1;
}

// came_by reports whether a client's packet came the way that its replies take:
// otherwise user space has to learn the new one.
static __always_inline int came_by(struct xdp_md *ctx, const struct ethernet *eth, const struct scratch *s)
{
	__u64 mac = (__u64)bpf_ntohl(*(__be32 *)eth->src) << 16 | bpf_ntohs(*(__be16 *)(eth->src + 4));

	return s->via_hi == mac && (__u32)s->via_lo == ctx->ingress_ifindex;
}

// forward_nat changes a packet in place. It returns 0 if the memo is not for it.
static __always_inline int forward_nat(struct xdp_md *ctx, const int v6, const int is_tcp, struct scratch *s,
				       const struct memo_route *r)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *l3 = eth + 1;
	void *l4 = l3 + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4));
	void *payload = l4 + (is_tcp ? sizeof(struct tcp) : sizeof(struct udp));

	if (apart(payload) > end || (r->op == MEMO_NAT_FORWARD && !came_by(ctx, eth, s)))
		return 0;
	translate(l3, v6, is_tcp, s, r);
	set_macs(eth, r);
	return 1;
}

// forward_l2 changes the MAC addresses.
static __always_inline int forward_l2(struct xdp_md *ctx, const int v6, const struct memo_route *r)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *l3 = eth + 1;

	if (l3 + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) > end)
		return 0;
	hop(l3, v6, 0);
	set_macs(eth, r);
	return 1;
}

// forward does to the packet what the route says. It returns 0 if it did
// nothing.
static __always_inline int forward(struct xdp_md *ctx, const int v6, struct scratch *s, const struct memo_route *r)
{
	s->longer = 0;
	switch (r->op) {
	case MEMO_IPIP:
		if (r->flags & MEMO_OUTER6)
			return encapsulate(ctx, s, r, v6, 1, 0);
		return encapsulate(ctx, s, r, v6, 0, 0);
	case MEMO_GUE:
		if (r->flags & MEMO_OUTER6)
			return 0; // its UDP checksum covers the whole packet
		return encapsulate(ctx, s, r, v6, 0, 1);
	case MEMO_NAT_FORWARD:
	case MEMO_NAT_REPLY:
		if (s->is_tcp)
			return forward_nat(ctx, v6, 1, s, r);
		return forward_nat(ctx, v6, 0, s, r);
	case MEMO_L2:
		return forward_l2(ctx, v6, r);
	}
	return 0;
}

// carry forwards a frame of one family by its memo. It returns what the kernel
// shall do, or MEMO_NONE. What registers keep is ctx, s and r.
static __always_inline int carry(struct xdp_md *ctx, const int v6, struct scratch *s)
{
	struct memo_route *r;

	if (!plain(ctx, v6, s) || !memo_find(s) || !memo_read(s))
		return MEMO_NONE;
	s->now = memo_now();
	if ((__s32)(MEMO_LEASE(s->control) - s->now) < 0)
		return MEMO_NONE;

	s->index = MEMO_ROUTE(s->control);
	settled();
	r = bpf_map_lookup_elem(&memo_routes, &scratch_of(s)->index);
	if (!r || !MEMO_GENERATION(s->control) || *(volatile __u32 *)&r->state != MEMO_GENERATION(s->control))
		return MEMO_NONE;
	settled();
	if (!(r->flags & MEMO_IN_KERNEL) || s->ip_len > r->mtu)
		return MEMO_NONE;
	// This only remembers where to: a frame that goes up after all is
	// redirected once more.
	s->action = XDP_TX;
	if (!memo_tx_back || r->ifindex != ctx->ingress_ifindex) {
		if (bpf_redirect_map(&memo_out, r->ifindex, XDP_ABORTED) != XDP_REDIRECT)
			return MEMO_NONE;
		s->action = XDP_REDIRECT;
	}
	settled();

	if (!forward(ctx, v6, s, r))
		return MEMO_NONE;
	memo_touch(s);
	memo_counted(s);
	return s->action;
}

static __noinline int carry_ipv4(struct xdp_md *ctx, struct scratch *s)
{
	return carry(ctx, 0, s);
}

static __noinline int carry_ipv6(struct xdp_md *ctx, struct scratch *s)
{
	return carry(ctx, 1, s);
}

// memo_carry forwards an untagged frame to an address of ours by its memo.
static __always_inline int memo_carry(struct xdp_md *ctx, struct scratch *s)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)(eth + 1) > end)
		return MEMO_NONE;
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_IPV4):
		return carry_ipv4(ctx, s);
	case bpf_htons(ETHERTYPE_IPV6):
		return carry_ipv6(ctx, s);
	}
	return MEMO_NONE;
}
