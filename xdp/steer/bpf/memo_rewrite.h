// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// What memos do to a packet, byte for byte what package dataplane/rewrite does:
// a checksum that is right stays right, and a wrong one wrong.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "memo.h"
#include "packet.h"
#include "scratch.h"

// fold brings a ones' complement sum of less than 2^31 to 16 bits. A sum that
// is not zero never folds to zero.
static __always_inline __u32 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

// updated is a checksum after a change of what it covers (RFC 1624, equation
// 3): delta is the sum of the complements of the old words and of the new ones.
static __always_inline __be16 updated(__be16 check, __u32 delta)
{
	return bpf_htons(~fold((__u16)~bpf_ntohs(check) + delta));
}

// A TTL that is one less makes the word of TTL and protocol less by this, as a
// change for updated.
#define TTL_DELTA (0xffff - 0x0100)

// set_macs writes a route's MAC addresses.
static __always_inline void set_macs(struct ethernet *eth, const struct memo_route *r)
{
	*(__u64 *)eth->dst = *(const __u64 *)r->macs;
	*(__u32 *)(eth->dst + 8) = *(const __u32 *)(r->macs + 8);
}

static __always_inline void set_addr6(struct addr *to, __u64 hi, __u64 lo)
{
	__u64 *half = (__u64 *)to;

	half[0] = bpf_cpu_to_be64(hi);
	half[1] = bpf_cpu_to_be64(lo);
}

// hop does what every router does, and changes an IPv4 header's checksum by
// delta, too.
static __always_inline void hop(void *l3, const int v6, __u32 delta)
{
	struct ipv4 *ip = l3;
	struct ipv6 *ip6 = l3;

	if (v6) {
		ip6->hop_limit--;
		return;
	}
	ip->ttl--;
	ip->checksum = updated(ip->checksum, TTL_DELTA + delta);
}

// translate does network address translation. The caller has checked that the
// headers are there.
static __always_inline void translate(void *l3, const int v6, const int is_tcp, const struct scratch *s,
				      const struct memo_route *r)
{
	struct ipv4 *ip = l3;
	struct ipv6 *ip6 = l3;
	void *l4 = v6 ? (void *)(ip6 + 1) : (void *)(ip + 1);
	__be16 *check = apart(l4 + (is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM));
	const int reply = r->op == MEMO_NAT_REPLY;
	__u64 nat = s->nat;
	__be16 sum = *check;

	hop(l3, v6, MEMO_DELTA_L3(nat));
	if (v6) {
		set_addr6(&ip6->src, r->src[0], r->src[1]);
		set_addr6(&ip6->dst, reply ? s->via_hi : r->dst[0], reply ? s->via_lo : r->dst[1]);
	} else {
		ip->src = bpf_htonl(r->src[1]);
		ip->dst = bpf_htonl(reply ? s->via_lo : r->dst[1]);
	}
	*(__be32 *)l4 = bpf_htonl(MEMO_PORTS(nat));
	if (!is_tcp && !sum) // no checksum
		return;
	sum = updated(sum, MEMO_DELTA_L4(nat));
	*check = is_tcp || sum ? sum : 0xffff;
}

// flow_label makes a flow label of a flow hash; 0 would say that there is none
// (RFC 6437 section 3).
static __always_inline __u32 flow_label(__u32 entropy)
{
	return entropy & 0xfffff ? entropy & 0xfffff : 1;
}

// gue_port makes a source port of a flow hash: a dynamic one (RFC 6335 section
// 6).
static __always_inline __u16 gue_port(__u32 entropy)
{
	return 49152 | ((entropy ^ entropy >> 16) & 0x3fff);
}

// put_ipv4 writes an outer IPv4 header. Only a packet that may be fragmented
// needs an identification (RFC 6864); those of one CPU are numbered.
static __always_inline void put_ipv4(struct ipv4 *ip, struct scratch *s, const struct memo_route *r,
				     __u32 len, __u8 protocol)
{
	__u32 fragment = s->dont_fragment ? IPV4_DF : (__u32)++s->id << 16; // identification | flags
	__u32 sum = r->sum + (r->op == MEMO_IPIP ? protocol : 0);

	*(__be32 *)&ip->version_ihl = bpf_htonl(0x45 << 24 | s->tos << 16 | len);
	*(__be32 *)&ip->id = bpf_htonl(fragment);
	*(__be16 *)&ip->ttl = bpf_htons(r->ttl << 8 | protocol);
	ip->checksum = bpf_htons(~fold(sum + s->tos + len + (fragment >> 16) + (fragment & 0xffff)));
	settled();
	ip->src = bpf_htonl(r->src[1]);
	ip->dst = bpf_htonl(r->dst[1]);
}

static __always_inline void put_ipv6(struct ipv6 *ip, const struct scratch *s, const struct memo_route *r,
				     __u8 next_header)
{
	ip->version_class_flow = bpf_htonl(6 << 28 | s->tos << 20 | flow_label(s->entropy));
	ip->payload_len = bpf_htons(s->ip_len);
	ip->next_header = next_header;
	ip->hop_limit = r->ttl;
	set_addr6(&ip->src, r->src[0], r->src[1]);
	set_addr6(&ip->dst, r->dst[0], r->dst[1]);
}

// encapsulate puts outer headers in front of the packet and cuts off what lies
// behind it. It returns 0 if the frame could not be changed, and is as it was.
static __always_inline int encapsulate(struct xdp_md *ctx, struct scratch *s, const struct memo_route *r,
				       const int v6, const int outer6, const int gue)
{
	const int outer_ip = outer6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	const int outer = outer_ip + (gue ? sizeof(struct gue) : 0);
	const int inner_ip = v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	const __u8 carried = v6 ? PROTOCOL_IPV6 : PROTOCOL_IPIP;
	const __u8 protocol = gue ? PROTOCOL_UDP : carried;
	struct ethernet *eth;
	void *l3, *end;

	if (bpf_xdp_adjust_head(ctx, -outer))
		return 0;
	if (s->excess && bpf_xdp_adjust_tail(ctx, -(int)s->excess))
		goto undo;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	l3 = eth + 1;
	if (l3 + outer + inner_ip > end)
		goto undo; // cannot be: all this was there before

	hop(l3 + outer, v6, 0);
	set_macs(eth, r);
	if (outer6) {
		eth->type = bpf_htons(ETHERTYPE_IPV6);
		put_ipv6(l3, s, r, protocol);
	} else {
		eth->type = bpf_htons(ETHERTYPE_IPV4);
		put_ipv4(l3, s, r, outer + s->ip_len, protocol);
	}
	if (gue) {
		struct gue *h = l3 + outer_ip;

		h->src_port = bpf_htons(gue_port(s->entropy));
		h->dst_port = bpf_htons(r->gue_port);
		h->udp_len = bpf_htons(sizeof(*h) + s->ip_len);
		h->udp_checksum = 0;
		h->header = bpf_htonl(carried << 16); // variant 0, data, no options
	}
	s->longer = outer;
	return 1;
undo:
	bpf_xdp_adjust_head(ctx, outer);
	return 0;
}
