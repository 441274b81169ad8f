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

// carried is a plain packet.
struct carried {
	struct memo_key key;
	struct inner inner;
	__u32 frame_len;
	int is_tcp;
};

// plain_ipv4 and plain_ipv6 read the IP header at l3: whole, without options or
// extension headers, with a right checksum, and with a TTL that lasts for
// another hop. They return the protocol, or 0 if it is otherwise.
static __always_inline __u8 plain_ipv4(const struct ipv4 *ip, struct carried *c)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	if (ip->version_ihl != 0x45 || fold(sum) != 0xffff ||
	    ip->frag & ~bpf_htons(IPV4_DF) || ip->ttl <= 1)
		return 0;
	c->key.hi = 0;
	c->key.lo = 0xffff00000000 | bpf_ntohl(ip->src);
	c->inner.len = bpf_ntohs(ip->total_len);
	c->inner.tos = ip->tos;
	c->inner.dont_fragment = !!(ip->frag & bpf_htons(IPV4_DF));
	return ip->protocol;
}

static __always_inline __u8 plain_ipv6(const struct ipv6 *ip, struct carried *c)
{
	const __u64 *src = (const __u64 *)&ip->src;
	__u32 first = bpf_ntohl(ip->version_class_flow);

	if (first >> 28 != 6 || ip->hop_limit <= 1)
		return 0;
	c->key.hi = bpf_be64_to_cpu(src[0]);
	c->key.lo = bpf_be64_to_cpu(src[1]);
	c->inner.len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	c->inner.tos = first >> 20;
	c->inner.dont_fragment = 1;
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
static __always_inline int plain(struct xdp_md *ctx, const int v6, __u16 local, struct carried *c)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *l3 = eth + 1;
	const __u32 ip_len = v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	struct udp *udp = l3 + ip_len;
	struct tcp *tcp = l3 + ip_len;
	__u8 protocol;
	__u32 n;

	if ((void *)(udp + 1) > end || eth->dst[0] & 1)
		return 0;
	protocol = v6 ? plain_ipv6(l3, c) : plain_ipv4(l3, c);
	c->frame_len = bpf_xdp_get_buff_len(ctx);
	if (c->inner.len < ip_len + sizeof(*udp) || sizeof(*eth) + c->inner.len > c->frame_len)
		return 0;
	c->inner.excess = c->frame_len - sizeof(*eth) - c->inner.len;
	n = c->inner.len - ip_len;
	c->is_tcp = protocol == PROTOCOL_TCP;
	if (c->is_tcp) {
		if ((void *)(tcp + 1) > end || n < sizeof(*tcp) || !plain_tcp(tcp, n))
			return 0;
	} else if (protocol != PROTOCOL_UDP || !plain_udp(udp, n)) {
		return 0;
	}
	c->key.rest = (__u64)bpf_ntohl(*(__be32 *)udp) << 32 | (__u32)local << 16 | (__u32)protocol << 8;
	return 1;
}

// came_by reports whether a client's packet came the way that its replies take:
// otherwise user space has to learn the new one.
static __always_inline int came_by(struct xdp_md *ctx, const struct ethernet *eth, const struct memo_entry *e)
{
	__u64 mac = (__u64)bpf_ntohl(*(__be32 *)eth->src) << 16 | bpf_ntohs(*(__be16 *)(eth->src + 4));

	return e->via_hi == mac && (__u32)e->via_lo == ctx->ingress_ifindex;
}

// forward_nat changes a packet in place. It returns 0 if the entry does not hold
// for it.
static __always_inline int forward_nat(struct xdp_md *ctx, const int v6, const int is_tcp, struct memo_entry *e,
				       __u64 control, const struct memo_route *r)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *l3 = eth + 1;
	void *l4 = l3 + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4));
	void *payload = l4 + (is_tcp ? sizeof(struct tcp) : sizeof(struct udp));
	struct ends to = {r->src[0], r->src[1], r->dst[0], r->dst[1]};
	__u64 nat = e->nat;

	if (apart(payload) > end)
		return 0;
	if (r->op == MEMO_NAT_FORWARD) {
		if (!came_by(ctx, eth, e))
			return 0;
	} else {
		to.dst_hi = e->via_hi;
		to.dst_lo = e->via_lo;
	}
	if (!memo_same(e, control))
		return 0;
	translate(l3, v6, is_tcp, &to, nat);
	set_macs(eth, r);
	return 1;
}

// forward_l2 changes the MAC addresses.
static __always_inline int forward_l2(struct xdp_md *ctx, const int v6, struct memo_entry *e, __u64 control,
				      const struct memo_route *r)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *l3 = eth + 1;

	if (l3 + (v6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) > end || !memo_same(e, control))
		return 0;
	hop(l3, v6, 0);
	set_macs(eth, r);
	return 1;
}

// forward does to the packet what the route says, and sets by how much the
// frame has become longer. It returns 0 if it did nothing.
static __always_inline int forward(struct xdp_md *ctx, const int v6, struct memo_entry *e, __u64 control,
				   const struct memo_route *r, const struct carried *c, __u16 id, __u32 *longer)
{
	__u32 entropy;

	*longer = 0;
	switch (r->op) {
	case MEMO_IPIP:
	case MEMO_GUE:
		entropy = e->entropy;
		if (!memo_same(e, control))
			return 0;
		if (r->op == MEMO_IPIP && !(r->flags & MEMO_OUTER6))
			*longer = encapsulate(ctx, r, &c->inner, v6, 0, 0, entropy, id);
		else if (r->op == MEMO_IPIP)
			*longer = encapsulate(ctx, r, &c->inner, v6, 1, 0, entropy, id);
		else if (!(r->flags & MEMO_OUTER6))
			*longer = encapsulate(ctx, r, &c->inner, v6, 0, 1, entropy, id);
		return *longer != 0;
	case MEMO_NAT_FORWARD:
	case MEMO_NAT_REPLY:
		return c->is_tcp ? forward_nat(ctx, v6, 1, e, control, r) : forward_nat(ctx, v6, 0, e, control, r);
	case MEMO_L2:
		return forward_l2(ctx, v6, e, control, r);
	}
	return 0;
}

// carry forwards a frame of one family by its memo. It returns what the kernel
// shall do, or MEMO_NONE.
static __always_inline int carry(struct xdp_md *ctx, const int v6, __u16 local)
{
	struct carried c;
	struct memo_entry *e;
	struct memo_route *r;
	struct memo_count *count;
	__u64 control;
	__u32 now, cpu, index, longer;
	int action = XDP_TX;

	if (!plain(ctx, v6, local, &c))
		return MEMO_NONE;
	e = memo_find(&c.key, &control);
	if (!e || !(e->flags & MEMO_FOR_KERNEL))
		return MEMO_NONE;
	now = memo_now();
	if ((__s32)(MEMO_LEASE(control) - now) < 0)
		return MEMO_NONE;

	index = MEMO_ROUTE(control);
	r = bpf_map_lookup_elem(&memo_routes, &index);
	if (!r || !MEMO_GENERATION(control) || *(volatile __u32 *)&r->state != MEMO_GENERATION(control))
		return MEMO_NONE;
	settled();
	if (!(r->flags & MEMO_IN_KERNEL) || c.inner.len > r->mtu)
		return MEMO_NONE;
	cpu = bpf_get_smp_processor_id();
	index += cpu * memo_routes_len;
	count = bpf_map_lookup_elem(&memo_counts, &index);
	if (!count)
		return MEMO_NONE;
	// This only remembers where to: a frame that goes up after all is
	// redirected once more.
	if (r->ifindex != ctx->ingress_ifindex &&
	    (action = bpf_redirect_map(&memo_out, r->ifindex, XDP_ABORTED)) != XDP_REDIRECT)
		return MEMO_NONE;

	if (!forward(ctx, v6, e, control, r, &c, memo_id(count, cpu), &longer))
		return MEMO_NONE;
	memo_touch(e, now);
	count->packets++;
	count->bytes += c.frame_len;
	count->bytes_sent += longer ? c.frame_len - c.inner.excess + longer : c.frame_len;
	return action;
}

// memo_carry forwards an untagged frame to the address of ours with the given ID
// by its memo.
static __always_inline int memo_carry(struct xdp_md *ctx, __u16 local)
{
	struct ethernet *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)(eth + 1) > end)
		return MEMO_NONE;
	switch (eth->type) {
	case bpf_htons(ETHERTYPE_IPV4):
		return carry(ctx, 0, local);
	case bpf_htons(ETHERTYPE_IPV6):
		return carry(ctx, 1, local);
	}
	return MEMO_NONE;
}
