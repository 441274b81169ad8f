// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// decap runs on a backend. It takes the outer headers off the packets that a
// load balancer has tunnelled to it, IP in IP or GUE, and hands what is inside
// to the host, as if it had arrived that way. Whatever is no such packet goes
// to the host untouched.
//
// The frame is read and written by offset (bpf_xdp_load_bytes and its kin, Linux
// 5.18), not by pointer: headers may lie in any buffer of a frame, and pointers
// with variable offsets take CAP_PERFMON.

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// EtherTypes (IEEE 802 numbers).
#define ETHERTYPE_IPV4      0x0800
#define ETHERTYPE_VLAN      0x8100 // 802.1Q
#define ETHERTYPE_IPV6      0x86dd
#define ETHERTYPE_SVLAN     0x88a8 // 802.1ad
#define ETHERTYPE_OLD_SVLAN 0x9100 // QinQ before 802.1ad

// IP protocols and IPv6 next headers.
#define PROTO_IPIP     4  // an IPv4 packet, RFC 2003 and RFC 2473
#define PROTO_UDP      17
#define PROTO_IPV6     41 // an IPv6 packet, RFC 4213 and RFC 2473
#define PROTO_FRAGMENT 44
#define PROTO_DSTOPTS  60

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET         0x1fff
#define IPV6_OFFSET         0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

// ECN codepoints, RFC 3168 section 5.
#define ECN_MASK    3
#define ECN_NOT_ECT 0
#define ECN_ECT1    1
#define ECN_ECT0    2
#define ECN_CE      3

#define MAX_VIPS           65536
#define MAX_LOAD_BALANCERS 65536

// addr is an IP address with its family, so that no address of one family is
// taken for one of the other.
struct addr {
	__u32 family; // 4 or 6
	__be32 word[4];
};

// prefix is the key of a longest-prefix match: 32 bits of family come first.
struct prefix {
	__u32 bits;
	struct addr addr;
};

// outcome is what became of a frame: the index of its counter. Each frame has
// exactly one.
enum outcome {
	PASSED,          // to the host: no tunnel packet
	IPIP_4IN4,       // decapsulated, as are the next five
	IPIP_6IN4,       // IPv6 in IPv4
	IPIP_4IN6,       // IPv4 in IPv6
	IPIP_6IN6,
	GUE,             // variant 0
	GUE_DIRECT,      // variant 1: an IP packet directly in UDP
	NOT_VIP,         // to the host: the inner destination is none of our VIPs
	FRAGMENT,        // to the host: the outer packet is a fragment
	OPTIONS,         // to the host: the outer IPv4 header has options
	REJECTED_SOURCE, // dropped: not from one of our load balancers
	MALFORMED,       // dropped: lengths, versions or checksum wrong, or GUE of an unknown kind
	ECN_DROPPED,     // dropped: congestion mark on a packet that cannot carry it (RFC 6040)
	FAILED,          // dropped: the driver refused to move the frame's start
	OUTCOMES,
};

// CONTINUE is no outcome: the next stage shall go on with the frame.
#define CONTINUE (-1)

// Set before loading.
const volatile __u16 gue_port = 6080;   // UDP destination port
const volatile __u8 check_vip = 0;      // only inner destinations in vips are ours
const volatile __u8 check_source = 0;   // only outer sources in load_balancers are let in

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_VIPS);
	__type(key, struct addr);
	__type(value, __u8);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LOAD_BALANCERS);
	__type(key, struct prefix);
	__type(value, __u8);
} load_balancers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

// vlan is a tag from behind its own EtherType on, IEEE 802.1Q section 9.6.
struct vlan {
	__be16 tci;
	__be16 type;
};

// link is the link-layer header with up to two VLAN tags.
struct link {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
	struct vlan tag[2];
};

#define ETHERNET_LEN 14
#define VLAN_LEN     4

// ipv4 is RFC 791 section 3.1.
struct ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_len;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 src;
	__be32 dst;
};

// ipv6 is RFC 8200 section 3.
struct ipv6 {
	__be32 version_class_flow;
	__be16 payload_len;
	__u8 next_header;
	__u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

// ipv6_fragment is RFC 8200 section 4.5.
struct ipv6_fragment {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

// ipv6_options is the start of a destination options header, RFC 8200 section
// 4.6; Linux's own tunnels send one (RFC 2473 section 5.1).
struct ipv6_options {
	__u8 next_header;
	__u8 len; // in units of 8 bytes, the first not counted
};

// udp is RFC 768.
struct udp {
	__be16 src;
	__be16 dst;
	__be16 len;
	__be16 checksum;
};

// gue is draft-ietf-intarea-gue section 3.1. In variant 1 an IP packet lies in
// its place, whose version number 4 or 6 has the same two bits on top.
struct gue {
	__u8 variant_control_hlen; // 2, 1 and 5 bits; hlen in units of 4 bytes, the first not counted
	__u8 protocol;
	__be16 flags;
};

_Static_assert(sizeof(struct link) == ETHERNET_LEN + 2 * VLAN_LEN, "Ethernet header and two tags");
_Static_assert(sizeof(struct ipv4) == 20, "IPv4 header");
_Static_assert(sizeof(struct ipv6) == 40, "IPv6 header");
_Static_assert(sizeof(struct ipv6_fragment) == 8, "IPv6 fragment header");
_Static_assert(sizeof(struct udp) == 8, "UDP header");
_Static_assert(sizeof(struct gue) == 4, "GUE header");

// packet is what the stages have found out so far. Offsets count from the start
// of the frame.
struct packet {
	struct link link;
	__u32 tags;       // VLAN tags in link
	__u32 link_len;
	struct addr src;  // outer source
	struct addr dst;  // inner destination
	__u32 at;         // what the next stage reads; in the end, the inner packet
	__u32 end;        // end of the headers' claims so far
	__u8 protocol;    // of what is at at
	__u8 outer;       // family of the outer header
	__u8 inner;       // family of the inner header
	__u8 fragment;    // the outer packet is a first fragment
	__u8 outer_ecn;
	__u8 inner_ecn;
	__u8 kind;        // outcome when decapsulated
};

static __always_inline void addr4(struct addr *a, __be32 v4)
{
	a->family = 4;
	a->word[0] = v4;
	a->word[1] = 0;
	a->word[2] = 0;
	a->word[3] = 0;
}

static __always_inline void addr6(struct addr *a, const __be32 *v6)
{
	a->family = 6;
	a->word[0] = v6[0];
	a->word[1] = v6[1];
	a->word[2] = v6[2];
	a->word[3] = v6[3];
}

static __always_inline int is_vlan(__be16 type)
{
	return type == bpf_htons(ETHERTYPE_VLAN) ||
	       type == bpf_htons(ETHERTYPE_SVLAN) ||
	       type == bpf_htons(ETHERTYPE_OLD_SVLAN);
}

static __always_inline __u8 traffic_class(const struct ipv6 *ip)
{
	return bpf_ntohl(ip->version_class_flow) >> 20;
}

// checksum_ok adds up an IPv4 header without options (RFC 1071).
static __always_inline int checksum_ok(const struct ipv4 *ip)
{
	const __u16 *word = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

// read_link reads the link-layer header and finds the outer family.
static __always_inline int read_link(struct xdp_md *ctx, struct packet *p)
{
	__be16 type;

	if (bpf_xdp_load_bytes(ctx, 0, &p->link, ETHERNET_LEN) < 0)
		return PASSED;
	type = p->link.type;
	p->link_len = ETHERNET_LEN;
	if (is_vlan(type)) {
		if (bpf_xdp_load_bytes(ctx, ETHERNET_LEN, &p->link.tag[0], VLAN_LEN) < 0)
			return PASSED;
		type = p->link.tag[0].type;
		p->link_len += VLAN_LEN;
		p->tags = 1;
	}
	if (p->tags == 1 && is_vlan(type)) {
		if (bpf_xdp_load_bytes(ctx, ETHERNET_LEN + VLAN_LEN, &p->link.tag[1], VLAN_LEN) < 0)
			return PASSED;
		type = p->link.tag[1].type;
		p->link_len += VLAN_LEN;
		p->tags = 2;
	}
	p->at = p->link_len;
	switch (type) {
	case bpf_htons(ETHERTYPE_IPV4):
		p->outer = 4;
		return CONTINUE;
	case bpf_htons(ETHERTYPE_IPV6):
		p->outer = 6;
		return CONTINUE;
	}
	return PASSED;
}

// read_outer4 reads an outer IPv4 header. What is not a tunnel protocol is
// left to the host without a further look.
static __always_inline int read_outer4(struct xdp_md *ctx, struct packet *p)
{
	__u32 total, frag;
	struct ipv4 ip;

	if (bpf_xdp_load_bytes(ctx, p->at, &ip, sizeof(ip)) < 0)
		return PASSED;
	if (ip.protocol != PROTO_IPIP && ip.protocol != PROTO_IPV6 && ip.protocol != PROTO_UDP)
		return PASSED;
	if (ip.version_ihl != 0x45)
		return ip.protocol != PROTO_UDP && ip.version_ihl >> 4 == 4 ? OPTIONS : PASSED;
	frag = bpf_ntohs(ip.frag);
	if (frag & IPV4_OFFSET)
		return ip.protocol != PROTO_UDP ? FRAGMENT : PASSED;
	p->fragment = !!(frag & IPV4_MORE_FRAGMENTS);

	total = bpf_ntohs(ip.total_len);
	if (total < sizeof(ip) || p->at + total > p->end || !checksum_ok(&ip))
		return ip.protocol != PROTO_UDP ? MALFORMED : PASSED;
	p->end = p->at + total;
	p->at += sizeof(ip);
	p->protocol = ip.protocol;
	p->outer_ecn = ip.tos & ECN_MASK;
	addr4(&p->src, ip.src);
	return CONTINUE;
}

// skip_dstopts steps over one destination options header.
static __always_inline int skip_dstopts(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_options o;

	if (bpf_xdp_load_bytes(ctx, p->at, &o, sizeof(o)) < 0)
		return PASSED;
	p->at += 8 + 8 * (__u32)o.len;
	p->protocol = o.next_header;
	return CONTINUE;
}

// read_fragment6 reads a fragment header. One whose packet is whole (RFC 6946)
// is stepped over.
static __always_inline int read_fragment6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_fragment f;
	__u32 offset;

	if (bpf_xdp_load_bytes(ctx, p->at, &f, sizeof(f)) < 0)
		return PASSED;
	offset = bpf_ntohs(f.offset);
	if (offset & IPV6_OFFSET)
		return f.next_header == PROTO_IPIP || f.next_header == PROTO_IPV6 ? FRAGMENT : PASSED;
	p->fragment = !!(offset & IPV6_MORE_FRAGMENTS);
	p->at += sizeof(f);
	p->protocol = f.next_header;
	return CONTINUE;
}

// read_outer6 reads an outer IPv6 header, and a fragment header and a
// destination options header in front of the tunnel's payload.
static __always_inline int read_outer6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6 ip;
	int o;

	if (bpf_xdp_load_bytes(ctx, p->at, &ip, sizeof(ip)) < 0)
		return PASSED;
	if (bpf_ntohl(ip.version_class_flow) >> 28 != 6)
		return PASSED;
	p->outer_ecn = traffic_class(&ip) & ECN_MASK;
	p->protocol = ip.next_header;
	addr6(&p->src, ip.src);
	p->at += sizeof(ip);
	if (p->protocol == PROTO_FRAGMENT && (o = read_fragment6(ctx, p)) != CONTINUE)
		return o;
	if (p->protocol == PROTO_DSTOPTS && (o = skip_dstopts(ctx, p)) != CONTINUE)
		return o;
	if (p->protocol != PROTO_IPIP && p->protocol != PROTO_IPV6 && p->protocol != PROTO_UDP)
		return PASSED;

	if (p->link_len + sizeof(ip) + bpf_ntohs(ip.payload_len) > p->end)
		return p->protocol != PROTO_UDP ? MALFORMED : PASSED;
	p->end = p->link_len + sizeof(ip) + bpf_ntohs(ip.payload_len);
	return CONTINUE;
}

// read_gue reads UDP and GUE headers, if the port is GUE's. The UDP checksum is
// not verified: what is inside has its own.
static __always_inline int read_gue(struct xdp_md *ctx, struct packet *p)
{
	struct udp udp;
	struct gue gue;
	__u32 len;

	if (p->at + sizeof(udp) > p->end || bpf_xdp_load_bytes(ctx, p->at, &udp, sizeof(udp)) < 0)
		return PASSED;
	if (udp.dst != bpf_htons(gue_port))
		return PASSED;
	if (p->fragment)
		return FRAGMENT;
	len = bpf_ntohs(udp.len);
	if (len < sizeof(udp) + sizeof(gue) || p->at + len > p->end)
		return MALFORMED;
	p->end = p->at + len;
	p->at += sizeof(udp);
	if (bpf_xdp_load_bytes(ctx, p->at, &gue, sizeof(gue)) < 0)
		return MALFORMED;

	switch (gue.variant_control_hlen >> 6) {
	case 0:
		// Flags name optional fields that may change what the payload means.
		if (gue.variant_control_hlen & 0x20 || gue.flags)
			return MALFORMED;
		p->at += sizeof(gue) + 4 * (__u32)(gue.variant_control_hlen & 0x1f);
		p->protocol = gue.protocol;
		p->kind = GUE;
		return CONTINUE;
	case 1:
		p->protocol = gue.variant_control_hlen >> 4 == 4 ? PROTO_IPIP : PROTO_IPV6;
		p->kind = GUE_DIRECT;
		return CONTINUE;
	}
	return MALFORMED;
}

// read_inner4 and read_inner6 read what the host will receive. Its lengths must
// not reach beyond the packet that carried it.
static __always_inline int read_inner4(struct xdp_md *ctx, struct packet *p)
{
	struct ipv4 ip;
	__u32 total, header;

	if (p->at + sizeof(ip) > p->end || bpf_xdp_load_bytes(ctx, p->at, &ip, sizeof(ip)) < 0)
		return MALFORMED;
	total = bpf_ntohs(ip.total_len);
	header = 4 * (ip.version_ihl & 0xf);
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip) || total < header || p->at + total > p->end)
		return MALFORMED;
	p->inner = 4;
	p->inner_ecn = ip.tos & ECN_MASK;
	addr4(&p->dst, ip.dst);
	return CONTINUE;
}

static __always_inline int read_inner6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6 ip;

	if (p->at + sizeof(ip) > p->end || bpf_xdp_load_bytes(ctx, p->at, &ip, sizeof(ip)) < 0)
		return MALFORMED;
	if (bpf_ntohl(ip.version_class_flow) >> 28 != 6 ||
	    p->at + sizeof(ip) + bpf_ntohs(ip.payload_len) > p->end)
		return MALFORMED;
	p->inner = 6;
	p->inner_ecn = traffic_class(&ip) & ECN_MASK;
	addr6(&p->dst, ip.dst);
	return CONTINUE;
}

// admit asks whether the packet is ours and from one of our load balancers.
static __always_inline int admit(struct packet *p)
{
	if (check_vip && !bpf_map_lookup_elem(&vips, &p->dst))
		return NOT_VIP;
	if (check_source) {
		struct prefix source = { .bits = 8 * sizeof(struct addr), .addr = p->src };

		if (!bpf_map_lookup_elem(&load_balancers, &source))
			return REJECTED_SOURCE;
	}
	return CONTINUE;
}

// set_ecn4 and set_ecn6 write the inner header's codepoint; IPv4's checksum is
// updated as RFC 1624 equation 3 says.
static __always_inline int set_ecn4(struct xdp_md *ctx, __u32 at, __u8 ecn)
{
	__u16 before, after;
	struct ipv4 ip;
	__u32 sum;

	if (bpf_xdp_load_bytes(ctx, at, &ip, sizeof(ip)) < 0)
		return FAILED;
	before = ip.version_ihl << 8 | ip.tos;
	ip.tos = (ip.tos & ~ECN_MASK) | ecn;
	after = ip.version_ihl << 8 | ip.tos;
	sum = (__u16)~bpf_ntohs(ip.checksum) + (__u32)(__u16)~before + after;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip.checksum = bpf_htons((__u16)~sum);
	return bpf_xdp_store_bytes(ctx, at, &ip, sizeof(ip)) < 0 ? FAILED : CONTINUE;
}

static __always_inline int set_ecn6(struct xdp_md *ctx, __u32 at, __u8 ecn)
{
	__u32 word;

	if (bpf_xdp_load_bytes(ctx, at, &word, sizeof(word)) < 0)
		return FAILED;
	word = bpf_htonl((bpf_ntohl(word) & ~((__u32)ECN_MASK << 20)) | (__u32)ecn << 20);
	return bpf_xdp_store_bytes(ctx, at, &word, sizeof(word)) < 0 ? FAILED : CONTINUE;
}

// carry_ecn puts the outer header's congestion mark into the inner one as RFC
// 6040 figure 4 says:
//
//	inner \ outer | Not-ECT | ECT(0)  | ECT(1)  | CE
//	Not-ECT       | Not-ECT | Not-ECT | Not-ECT | drop
//	ECT(0)        | ECT(0)  | ECT(0)  | ECT(1)  | CE
//	ECT(1)        | ECT(1)  | ECT(1)  | ECT(1)  | CE
//	CE            | CE      | CE      | CE      | CE
static __always_inline int carry_ecn(struct xdp_md *ctx, struct packet *p)
{
	__u8 ecn = p->inner_ecn;

	if (p->outer_ecn == ECN_CE && p->inner_ecn == ECN_NOT_ECT)
		return ECN_DROPPED;
	if (p->outer_ecn == ECN_CE)
		ecn = ECN_CE;
	else if (p->outer_ecn == ECN_ECT1 && p->inner_ecn == ECN_ECT0)
		ecn = ECN_ECT1;
	if (ecn == p->inner_ecn)
		return CONTINUE;
	return p->inner == 4 ? set_ecn4(ctx, p->at, ecn) : set_ecn6(ctx, p->at, ecn);
}

// strip takes the outer headers off: the frame's start moves up so that the
// link-layer header, with its tags, fits in front of the inner packet.
static __always_inline int strip(struct xdp_md *ctx, struct packet *p)
{
	__be16 type = p->inner == 4 ? bpf_htons(ETHERTYPE_IPV4) : bpf_htons(ETHERTYPE_IPV6);
	long err;

	if (bpf_xdp_adjust_head(ctx, p->at - p->link_len) < 0)
		return FAILED;
	switch (p->tags) {
	case 0:
		p->link.type = type;
		err = bpf_xdp_store_bytes(ctx, 0, &p->link, ETHERNET_LEN);
		break;
	case 1:
		p->link.tag[0].type = type;
		err = bpf_xdp_store_bytes(ctx, 0, &p->link, ETHERNET_LEN + VLAN_LEN);
		break;
	default:
		p->link.tag[1].type = type;
		err = bpf_xdp_store_bytes(ctx, 0, &p->link, ETHERNET_LEN + 2 * VLAN_LEN);
	}
	return err < 0 ? FAILED : p->kind;
}

// process takes a frame through the stages and returns its outcome.
static __always_inline int process(struct xdp_md *ctx)
{
	struct packet p = {};
	int o;

	p.end = bpf_xdp_get_buff_len(ctx);
	if ((o = read_link(ctx, &p)) != CONTINUE)
		return o;
	o = p.outer == 4 ? read_outer4(ctx, &p) : read_outer6(ctx, &p);
	if (o != CONTINUE)
		return o;
	if (p.protocol == PROTO_UDP) {
		if ((o = read_gue(ctx, &p)) != CONTINUE)
			return o;
	} else if (p.fragment) {
		return FRAGMENT;
	}

	if (p.protocol == PROTO_IPIP)
		o = read_inner4(ctx, &p);
	else if (p.protocol == PROTO_IPV6)
		o = read_inner6(ctx, &p);
	else
		o = MALFORMED;
	if (o != CONTINUE)
		return o;
	if (!p.kind) {
		if (p.outer == 4)
			p.kind = p.inner == 4 ? IPIP_4IN4 : IPIP_6IN4;
		else
			p.kind = p.inner == 4 ? IPIP_4IN6 : IPIP_6IN6;
	}

	if ((o = admit(&p)) != CONTINUE)
		return o;
	if ((o = carry_ecn(ctx, &p)) != CONTINUE)
		return o;
	return strip(ctx, &p);
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	__u32 outcome = process(ctx);
	__u64 *count = bpf_map_lookup_elem(&counts, &outcome);

	if (count)
		(*count)++;
	return outcome < REJECTED_SOURCE ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
