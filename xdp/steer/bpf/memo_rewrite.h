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

// apart keeps the compiler from making one piece of code of several in which a
// pointer is at different constant distances from the frame's start: a distance
// that is not constant needs CAP_PERFMON.
static __always_inline void *apart(void *p)
{
	asm volatile("" : "+r"(p));
	return p;
}

// ends are the addresses of a packet after translation.
struct ends {
	__u64 src_hi;
	__u64 src_lo;
	__u64 dst_hi;
	__u64 dst_lo;
};

// translate does network address translation. The caller has checked that the
// headers are there.
static __always_inline void translate(void *l3, const int v6, const int is_tcp, const struct ends *to, __u64 nat)
{
	struct ipv4 *ip = l3;
	struct ipv6 *ip6 = l3;
	void *l4 = v6 ? (void *)(ip6 + 1) : (void *)(ip + 1);
	__be16 *check = apart(l4 + (is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM));
	__be16 sum = *check;

	hop(l3, v6, MEMO_DELTA_L3(nat));
	if (v6) {
		set_addr6(&ip6->src, to->src_hi, to->src_lo);
		set_addr6(&ip6->dst, to->dst_hi, to->dst_lo);
	} else {
		ip->src = bpf_htonl(to->src_lo);
		ip->dst = bpf_htonl(to->dst_lo);
	}
	*(__be32 *)l4 = bpf_htonl(MEMO_PORTS(nat));
	if (!is_tcp && !sum) // no checksum
		return;
	sum = updated(sum, MEMO_DELTA_L4(nat));
	*check = is_tcp || sum ? sum : 0xffff;
}

// inner is what the outer headers take over from the packet.
struct inner {
	__u32 len;    // of the IP packet
	__u32 excess; // bytes behind it
	__u8 tos;
	__u8 dont_fragment;
};

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
// needs an identification (RFC 6864).
static __always_inline void put_ipv4(struct ipv4 *ip, const struct memo_route *r, const struct inner *in,
				     __u32 len, __u8 protocol, __u16 id)
{
	__be16 first = bpf_htons(0x4500 | in->tos), total = bpf_htons(len);
	__be16 ident = in->dont_fragment ? 0 : bpf_htons(id);
	__be16 frag = in->dont_fragment ? bpf_htons(IPV4_DF) : 0;
	__be16 life = bpf_htons(r->ttl << 8 | protocol);
	__be32 src = bpf_htonl(r->src[1]), dst = bpf_htonl(r->dst[1]);
	__u64 sum = (__u64)first + total + ident + frag + life + src + dst;

	*(__be32 *)&ip->version_ihl = first | (__be32)total << 16;
	*(__be32 *)&ip->id = ident | (__be32)frag << 16;
	*(__be16 *)&ip->ttl = life;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->checksum = ~fold(sum);
	ip->src = src;
	ip->dst = dst;
}

static __always_inline void put_ipv6(struct ipv6 *ip, const struct memo_route *r, const struct inner *in,
				     __u8 next_header, __u32 label)
{
	ip->version_class_flow = bpf_htonl(6 << 28 | in->tos << 20 | label);
	ip->payload_len = bpf_htons(in->len);
	ip->next_header = next_header;
	ip->hop_limit = r->ttl;
	set_addr6(&ip->src, r->src[0], r->src[1]);
	set_addr6(&ip->dst, r->dst[0], r->dst[1]);
}

// encapsulate puts outer headers in front of the packet and cuts off what lies
// behind it. It returns the length of the outer headers, or 0 if the frame
// could not be changed, and is as it was.
static __always_inline __u32 encapsulate(struct xdp_md *ctx, const struct memo_route *r, const struct inner *in,
					 const int v6, const int outer6, const int gue, __u32 entropy, __u16 id)
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
	if (in->excess && bpf_xdp_adjust_tail(ctx, -(int)in->excess))
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
		put_ipv6(l3, r, in, protocol, flow_label(entropy));
	} else {
		eth->type = bpf_htons(ETHERTYPE_IPV4);
		put_ipv4(l3, r, in, outer + in->len, protocol, id);
	}
	if (gue) {
		struct gue *h = l3 + outer_ip;

		h->src_port = bpf_htons(gue_port(entropy));
		h->dst_port = bpf_htons(r->gue_port);
		h->udp_len = bpf_htons(sizeof(*h) + in->len);
		h->udp_checksum = 0;
		h->header = bpf_htonl(carried << 16); // variant 0, data, no options
	}
	return outer;
undo:
	bpf_xdp_adjust_head(ctx, outer);
	return 0;
}
