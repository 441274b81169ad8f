// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Headers of the packets that are looked at. They have no padding, so that they
// can be laid over a frame.

#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>

// EtherTypes (IEEE 802 numbers).
#define ETHERTYPE_IPV4      0x0800
#define ETHERTYPE_ARP       0x0806
#define ETHERTYPE_VLAN      0x8100 // 802.1Q
#define ETHERTYPE_IPV6      0x86dd
#define ETHERTYPE_SVLAN     0x88a8 // 802.1ad
#define ETHERTYPE_OLD_SVLAN 0x9100 // QinQ before 802.1ad

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST           1

// Protocol numbers (IANA).
#define PROTOCOL_HOPOPT      0
#define PROTOCOL_IPIP        4
#define PROTOCOL_TCP         6
#define PROTOCOL_UDP         17
#define PROTOCOL_IPV6        41
#define PROTOCOL_ROUTING     43
#define PROTOCOL_FRAGMENT    44
#define PROTOCOL_ICMPV6      58
#define PROTOCOL_DESTINATION 60

// "Don't fragment", the one bit of the fragment field that a whole packet has.
#define IPV4_DF 0x4000

// TCP flags; the classic ones are those of RFC 793.
#define TCP_FIN     0x01
#define TCP_SYN     0x02
#define TCP_RST     0x04
#define TCP_ACK     0x10
#define TCP_CLASSIC 0x3f

// Offsets of checksums in transport headers.
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6

#define ICMPV6_SOLICIT     135 // neighbour solicitation, RFC 4861 section 4.3
#define NDP_HOP_LIMIT      255 // RFC 4861 section 7.1.1

// addr is an IP address in network byte order, IPv4 as ::ffff:a.b.c.d.
struct addr {
	__be32 word[4];
};

struct ethernet {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

static __always_inline int is_vlan(__be16 type)
{
	return type == bpf_htons(ETHERTYPE_VLAN) ||
	       type == bpf_htons(ETHERTYPE_SVLAN) ||
	       type == bpf_htons(ETHERTYPE_OLD_SVLAN);
}

// vlan is a tag from behind its own EtherType on, IEEE 802.1Q section 9.6.
struct vlan {
	__be16 tci;
	__be16 type;
};

// arp is RFC 826 for IPv4 over Ethernet.
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__be32 target;
};

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
	struct addr src;
	struct addr dst;
};

// tcp is RFC 9293 section 3.1.
struct tcp {
	__be16 src_port;
	__be16 dst_port;
	__be32 seq;
	__be32 ack;
	__u8 offset; // of the data, in 32-bit words: the upper 4 bits
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

// udp is RFC 768.
struct udp {
	__be16 src_port;
	__be16 dst_port;
	__be16 len;
	__be16 checksum;
};

// gue is a UDP header with that of Generic UDP Encapsulation, variant 0 without
// optional fields (draft-ietf-intarea-gue section 3.1).
struct gue {
	__be16 src_port;
	__be16 dst_port;
	__be16 udp_len;
	__be16 udp_checksum;
	__be32 header;
};

// solicit is a neighbour solicitation, RFC 4861 section 4.3.
struct solicit {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 reserved;
	struct addr target;
};

_Static_assert(sizeof(struct ethernet) == 14, "Ethernet header");
_Static_assert(sizeof(struct vlan) == 4, "VLAN tag");
_Static_assert(sizeof(struct arp) == 28, "ARP packet");
_Static_assert(sizeof(struct ipv4) == 20, "IPv4 header");
_Static_assert(sizeof(struct ipv6) == 40, "IPv6 header");
_Static_assert(sizeof(struct tcp) == 20, "TCP header");
_Static_assert(sizeof(struct udp) == 8, "UDP header");
_Static_assert(sizeof(struct gue) == 12, "UDP and GUE header");
_Static_assert(sizeof(struct solicit) == 24, "neighbour solicitation");
