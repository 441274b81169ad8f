// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// steer decides for every received frame whether it is for an address of ours
// (a VIP, a SNAT address, or an ARP request or neighbour solicitation for
// one), and if so redirects it to the AF_XDP socket of the queue it arrived
// on. Everything else goes to the host untouched. It reads as little of the
// frame as that question needs: whether the packet is well formed is asked,
// and counted by reason, in user space.

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "admission.h"
#include "memo.h"
#include "memo_carry.h"
#include "packet.h"
#include "scratch.h"

// Sizes of the tables. Package steer allows half of MAX_LOCALS, so that a set
// can be replaced by a wholly different one, additions before removals.
#define MAX_LOCALS 131072
#define MAX_DENIED 65536
#define MAX_QUEUES 256

// No buffer is larger than a page: a frame of twice this length is in several.
#define LARGEST_BIT 4096

// Flags of struct local.
#define LOCAL_TAKE_IP    1 // IP packets to the address are ours
#define LOCAL_ANSWER_ARP 2 // ARP requests and solicitations for it are ours

// local says what to do with traffic to one address of ours.
struct local {
	__u8 fail_action; // XDP_DROP or XDP_PASS: what to do without a socket
	__u8 flags;       // LOCAL_*
	__u8 kind;        // for user space only
	__u8 reserved;
	__u16 id; // what flow memos know the address by
	__u16 reserved2;
};

// denial counts what one denied source has lost; there is one per CPU.
struct denial {
	__u64 packets;
	__u64 bytes;
};

// settings hold for all interfaces.
struct settings {
	__u32 denied; // number of entries in the denied map; 0: do not look
};

// outcome is what became of a frame: the index of its counter. Each frame has
// exactly one.
enum outcome {
	PASSED,       // to the host: not ours
	REDIRECTED,   // to the queue's socket
	FAIL_DROPPED, // ours, no socket, fail action drop
	FAIL_PASSED,  // ours, no socket, fail action pass
	DENIED,       // ours, source denied: dropped
	OVERSIZE,     // ours, in several buffers: dropped
	MEMO,         // ours, forwarded by a flow memo
	SHED,         // ours, begins a connection for which there is no credit: dropped
	OUTCOMES,
};

// frags is set before loading when the program accepts frames that lie in
// more than one buffer (BPF_F_XDP_HAS_FRAGS).
const volatile __u32 frags = 0;

// keys are the numbers of counters, as keys of a map.
const volatile __u32 keys[OUTCOMES] = {
	PASSED, REDIRECTED, FAIL_DROPPED, FAIL_PASSED, DENIED, OVERSIZE, MEMO, SHED,
};

static __always_inline const void *key_of(__u32 number)
{
	return (const void *)&keys[number];
}

// locals, denied and config are shared by the programs of all interfaces.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LOCALS);
	__type(key, struct addr);
	__type(value, struct local);
} locals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_DENIED);
	__type(key, struct addr);
	__type(value, struct denial);
} denied SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} config SEC(".maps");

// xsks and counts belong to one interface.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void map4(struct addr *a, __be32 v4)
{
	a = apart(a);
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = v4;
}

static __always_inline int same(const struct addr *a, const struct addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

// is_mapped tells an IPv6 address that would be taken for an IPv4 one.
static __always_inline int is_mapped(const struct addr *a)
{
	return a->word[0] == 0 && a->word[1] == 0 &&
	       a->word[2] == bpf_htonl(0xffff);
}

// solicits reports whether dst is where a solicitation for target belongs:
// its solicited-node multicast address ff02::1:ffXX:XXXX, with the low 24
// bits of target (RFC 4291 section 2.7.1), or target itself.
static __always_inline int solicits(const struct addr *dst, const struct addr *target)
{
	if (same(dst, target))
		return 1;
	return dst->word[0] == bpf_htonl(0xff020000) && dst->word[1] == 0 &&
	       dst->word[2] == bpf_htonl(1) &&
	       dst->word[3] == (target->word[3] | bpf_htonl(0xff000000));
}

// ask_ipv4 and its kin read what they need from l3 on: the address that the
// frame is for, its source, and in what capacity the address is wanted: a LOCAL_*
// flag. They return 0 when the frame cannot be ours.
static __always_inline int ask_ipv4(void *l3, void *end, struct scratch *s)
{
	struct ipv4 *ip = l3;

	if ((void *)(ip + 1) > end)
		return 0;
	map4(&s->address, ip->dst);
	map4(&s->source, ip->src);
	return LOCAL_TAKE_IP;
}

static __always_inline int ask_arp(void *l3, void *end, struct scratch *s)
{
	struct arp *arp = l3;

	if ((void *)(arp + 1) > end)
		return 0;
	if (arp->hardware != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_len != 6 || arp->protocol_len != 4 ||
	    arp->operation != bpf_htons(ARP_REQUEST))
		return 0;
	map4(&s->address, arp->target);
	return LOCAL_ANSWER_ARP;
}

static __always_inline int ask_ipv6(void *l3, void *end, struct scratch *s)
{
	struct ipv6 *ip = l3;
	struct solicit *ns = l3 + sizeof(*ip);

	if ((void *)(ip + 1) > end)
		return 0;
	if (ip->next_header == PROTOCOL_ICMPV6 && ip->hop_limit == NDP_HOP_LIMIT &&
	    (void *)(ns + 1) <= end && ns->type == ICMPV6_SOLICIT && ns->code == 0 &&
	    solicits(&ip->dst, &ns->target)) {
		s->address = ns->target;
		return is_mapped(&ns->target) ? 0 : LOCAL_ANSWER_ARP;
	}
	s->address = ip->dst;
	s->source = ip->src;
	return is_mapped(&ip->dst) ? 0 : LOCAL_TAKE_IP;
}

static __always_inline int ask(void *data, void *end, struct scratch *s)
{
	struct ethernet *eth = data;
	void *l3 = eth + 1;
	__be16 type;

	if (l3 > end)
		return 0;
	type = eth->type;
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		struct vlan *tag = l3;

		if (!is_vlan(type))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		type = tag->type;
		l3 = tag + 1;
	}

	switch (type) {
	case bpf_htons(ETHERTYPE_IPV4):
		return ask_ipv4(l3, end, s);
	case bpf_htons(ETHERTYPE_IPV6):
		return ask_ipv6(l3, end, s);
	case bpf_htons(ETHERTYPE_ARP):
		return ask_arp(l3, end, s);
	}
	return 0;
}

// is_denied looks the source up and counts what it loses. The map is not
// touched while it is empty.
static __always_inline int is_denied(struct xdp_md *ctx, const struct addr *source)
{
	struct settings *set;
	struct denial *d;

	set = bpf_map_lookup_elem(&config, key_of(0));
	if (!set || !set->denied)
		return 0;
	d = bpf_map_lookup_elem(&denied, source);
	if (!d)
		return 0;
	d->packets++;
	d->bytes += bpf_xdp_get_buff_len(ctx);
	return 1;
}

// in_several_buffers reports whether there is more of the frame than what lies
// between data and data_end. To compute end - data, or data plus a variable, a
// program needs CAP_PERFMON; adding constants is free to all. So the length is
// added bit by bit, and the compiler kept from putting the bits together. It is
// a global function so that its many paths are verified only once.
__noinline int in_several_buffers(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u64 bytes;

	bytes = bpf_xdp_get_buff_len(ctx);
	if (bytes >= 2 * LARGEST_BIT)
		return 1;
#pragma unroll
	for (__u64 bit = LARGEST_BIT; bit; bit >>= 1) {
		if (bytes & bit) {
			data += bit;
			asm volatile("" : "+r"(data));
		}
	}
	return data > end;
}

// end_with counts the outcome and says what the kernel shall do.
static __always_inline int end_with(enum outcome outcome, int action)
{
	__u64 *count = bpf_map_lookup_elem(&counts, key_of(outcome));

	if (count)
		(*count)++;
	return action;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, key_of(0));
	struct local *local;
	int need;

	if (!s) // cannot be
		return XDP_ABORTED;
	need = ask((void *)(long)ctx->data, (void *)(long)ctx->data_end, s);
	if (!need)
		return end_with(PASSED, XDP_PASS);
	local = bpf_map_lookup_elem(&locals, &s->address);
	if (!local || !(local->flags & need))
		return end_with(PASSED, XDP_PASS);
	s->local = local->id;
	s->fail_action = local->fail_action;
	s->index = ctx->rx_queue_index;
	settled();

	if (need == LOCAL_TAKE_IP && is_denied(ctx, &s->source))
		return end_with(DENIED, XDP_DROP);

	if (frags && in_several_buffers(ctx)) {
		// An AF_XDP socket without XDP_USE_SG would lose the frame uncounted.
		if (bpf_map_lookup_elem(&xsks, &s->index))
			return end_with(OVERSIZE, XDP_DROP);
	} else if (memo_sets && need == LOCAL_TAKE_IP) {
		int action = memo_carry(ctx, s);

		if (action != MEMO_NONE)
			return end_with(MEMO, action);
	}

	switch (bpf_redirect_map(&xsks, ctx->rx_queue_index, s->fail_action)) {
	case XDP_REDIRECT:
		if (admission_base != ADMISSION_NONE && need == LOCAL_TAKE_IP && !admitted(ctx, s))
			return end_with(SHED, XDP_DROP);
		return end_with(REDIRECTED, XDP_REDIRECT);
	case XDP_PASS:
		return end_with(FAIL_PASSED, XDP_PASS);
	default:
		return end_with(FAIL_DROPPED, XDP_DROP);
	}
}

char _license[] SEC("license") = "Dual BSD/GPL";
