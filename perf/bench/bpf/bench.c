// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The benchmark's programs: a traffic source that runs on live frames
// (BPF_PROG_TEST_RUN), two sinks that count and drop, and the simplest
// forwarders that the kernel can run, to compare with. Constants are set
// before a program is loaded.

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define NEXT_HOP_BY_HOP 0
#define NEXT_ICMPV6     58

// Offsets in an untagged Ethernet frame with an IPv4 header without options.
#define OFF_ETHERTYPE  12
#define OFF_IP         14
#define OFF_IP_LENGTH  16
#define OFF_IP_SUM     24
#define OFF_SOURCE_LOW 28 // the lower half of the source address
#define OFF_DEST       30
#define OFF_L4         34
#define OFF_UDP_SUM    40
#define OFF_TCP_FLAGS  47
#define OFF_TCP_SUM    50

// The same with an IPv6 header without extension headers.
#define OFF6_LENGTH     18
#define OFF6_NEXT       20
#define OFF6_SOURCE_LOW 36
#define OFF6_DEST       38
#define OFF6_L4         54
#define OFF6_UDP_SUM    60
#define OFF6_TCP_FLAGS  67
#define OFF6_TCP_SUM    70

#define MIN_FRAME    60
#define MIN_FRAME6   62 // UDP
#define MIN_FRAME6_TCP 74
#define STAMP_LEN    8
#define WORDS4       7 // 56 bytes: Ethernet, IPv4 and TCP headers lie in them
#define HEADER_WORDS 9 // 72 bytes: the same with an IPv6 header, but for TCP's urgent pointer

#define TCP_SYN 0x02

// Flow f comes from port FIRST_PORT + f % 2^15 of client f / 2^15.
#define PORT_BITS  15
#define PORT_MASK  0x7fff
#define FIRST_PORT 0x4000

// A source that is this far behind its pace does not catch up.
#define MAX_LAG_NS 1000000

// ---- the source ----

// The frame's first bytes, and the ones' complement sums, in the machine's
// byte order, of what the checksums cover, with the lower half of the source
// address, the source port, the flags and the time stamp as zero.
volatile const __u64 header[HEADER_WORDS];
volatile const __u32 ip_sum;
volatile const __u32 l4_sum;
volatile const __u8 tcp;         // else UDP
volatile const __u8 flags;       // of TCP segments after the opening ones
volatile const __u8 opening_syn; // opening segments are SYNs

volatile const __u32 flows;       // how many; 0: every frame is a new flow
volatile const __u64 opening;     // frames that begin all flows, in order
volatile const __u64 opening_gap; // ns between them; 0: none
volatile const __u64 settled;     // opening and further frames that go through all flows in order
volatile const __u64 settle_gap;  // ns between the latter
volatile const __u64 gap;         // ns between all others
volatile const __u8 stamped;      // the frame ends with the time it was sent
volatile const __u8 discard;      // drop what was made: what making it costs

__u64 sent; // frames made
__u64 next; // when the next is due

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// make writes a whole header, of one family, into a frame. Pages come back with
// whatever a forwarder has made of them.
static __always_inline int make(struct xdp_md *ctx, int v6)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u64 n = sent, wait = n < opening ? opening_gap : n < settled ? settle_gap : gap, now = 0;
	__u32 flow;

	if (data + (v6 ? MIN_FRAME6 : MIN_FRAME) > end)
		return XDP_ABORTED;
	if (wait || stamped)
		now = bpf_ktime_get_ns();
	if (wait) {
		__u64 due = next;

		if (now < due)
			return XDP_DROP;
		next = (now - due > MAX_LAG_NS ? now : due) + wait;
	}
	sent = n + 1;

	if (!flows)
		flow = n;
	else if (n < settled)
		flow = n % flows;
	else
		flow = (__u64)((__u32)n * 2654435761u) * flows >> 32;

	__u64 *words = data;
	#pragma unroll
	for (int i = 0; i < WORDS4; i++)
		words[i] = header[i];
	if (v6 && tcp) {
		if (data + MIN_FRAME6_TCP > end)
			return XDP_ABORTED;
		words[7] = header[7];
		words[8] = header[8];
	} else if (v6) {
		*(__u32 *)(data + 56) = header[7];
		*(__u16 *)(data + 60) = header[7] >> 32;
	}

	__u16 source = bpf_htons(flow >> PORT_BITS), port = bpf_htons(FIRST_PORT + (flow & PORT_MASK));
	__u64 sum = (__u64)l4_sum + source + port;

	*(__u16 *)(data + (v6 ? OFF6_SOURCE_LOW : OFF_SOURCE_LOW)) = source;
	*(__u16 *)(data + (v6 ? OFF6_L4 : OFF_L4)) = port;
	if (!v6)
		*(__u16 *)(data + OFF_IP_SUM) = ~fold((__u64)ip_sum + source);
	if (stamped) {
		// The checksum needs an even offset, the verifier a bound.
		__u32 at = (end - data - STAMP_LEN) & 0x7fe;
		__u64 *stamp = data + at;

		if (at < (v6 ? OFF6_L4 + 8 : OFF_TCP_SUM) || (void *)(stamp + 1) > end)
			return XDP_ABORTED;
		*stamp = now;
		sum += (now & 0xffffffff) + (now >> 32);
	}
	if (tcp) {
		__u8 f = n < opening && opening_syn ? TCP_SYN : flags;

		*(__u8 *)(data + (v6 ? OFF6_TCP_FLAGS : OFF_TCP_FLAGS)) = f;
		sum += bpf_htons(f);
		*(__u16 *)(data + (v6 ? OFF6_TCP_SUM : OFF_TCP_SUM)) = ~fold(sum);
	} else {
		__u16 check = ~fold(sum);

		*(__u16 *)(data + (v6 ? OFF6_UDP_SUM : OFF_UDP_SUM)) = check ? check : 0xffff;
	}
	return discard ? XDP_DROP : XDP_TX;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	return make(ctx, 0);
}

SEC("xdp")
int generate6(struct xdp_md *ctx)
{
	return make(ctx, 1);
}

// ---- the sinks ----

// Clients' addresses: what a forwarder sends back to them was not forwarded.
volatile const __u32 client_prefix;
volatile const __u32 client_mask;
volatile const __u64 client_prefix6; // the first 64 bits

struct counts {
	__u64 frames; // forwarded IP frames
	__u64 bytes;
	__u64 other; // IP frames to clients
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counted SEC(".maps");

// Delays of stamped frames in ns: 16 buckets for each power of two.
#define DELAY_BUCKETS 480

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DELAY_BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

static __always_inline __u32 delay_bucket(__u64 ns)
{
	__u32 exponent = 0;

	if (ns < 16)
		return ns;
	if (ns >> 32)
		return DELAY_BUCKETS - 1;
	for (__u32 step = 16; step; step >>= 1)
		if (ns >> (exponent + step))
			exponent += step;
	return (exponent - 3) * 16 + (ns >> (exponent - 4) & 15);
}

static __always_inline void count_delay(__u64 stamp)
{
	__u32 bucket = delay_bucket(bpf_ktime_get_ns() - stamp);
	__u64 *n = bpf_map_lookup_elem(&delays, &bucket);

	if (n)
		*n += 1;
}

// to_count reports whether a frame is IP, and not what hosts on an IPv6 link
// tell each other.
static __always_inline int to_count(void *data, void *end)
{
	__u16 type;

	if (data + OFF_L4 > end)
		return 0;
	type = *(__u16 *)(data + OFF_ETHERTYPE);
	if (type == bpf_htons(ETHERTYPE_IPV4))
		return 1;
	if (type != bpf_htons(ETHERTYPE_IPV6) || data + OFF6_L4 > end)
		return 0;
	return *(__u8 *)(data + OFF6_NEXT) != NEXT_ICMPV6 && *(__u8 *)(data + OFF6_NEXT) != NEXT_HOP_BY_HOP;
}

static __always_inline int to_client(void *data, void *end)
{
	if (*(__u16 *)(data + OFF_ETHERTYPE) == bpf_htons(ETHERTYPE_IPV4))
		return (*(__u32 *)(data + OFF_DEST) & client_mask) == client_prefix;
	if (data + OFF6_L4 > end)
		return 0;
	return *(__u64 *)(data + OFF6_DEST) == client_prefix6;
}

// count returns whether the frame was one that was forwarded.
static __always_inline int count(void *data, void *end, __u32 len)
{
	__u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);

	if (!c)
		return 0;
	if (to_client(data, end)) {
		c->other++;
		return 0;
	}
	c->frames++;
	c->bytes += len;
	return 1;
}

SEC("tcx/ingress")
int sink_tc(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u64 stamp;

	if (!to_count(data, end))
		return TC_ACT_OK;
	if (count(data, end, skb->len) && stamped &&
	    !bpf_skb_load_bytes(skb, skb->len - STAMP_LEN, &stamp, STAMP_LEN))
		count_delay(stamp);
	return TC_ACT_SHOT;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 len = ctx->data_end - ctx->data;
	__u64 stamp;

	if (!to_count(data, end))
		return XDP_PASS;
	if (count(data, end, len) && stamped && !bpf_xdp_load_bytes(ctx, len - STAMP_LEN, &stamp, STAMP_LEN))
		count_delay(stamp);
	return XDP_DROP;
}

// ---- forwarders to compare with ----

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// take gives every frame of queue 0 to an AF_XDP socket.
SEC("xdp")
int take(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

// pass lets the stack have every frame. A veth takes redirected frames only
// when its other end has a program.
SEC("xdp")
int pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

// What encapsulate puts in front of the packet: Ethernet and IP header, the
// latter with length and checksum as zero, and an IPv4 header's sum.
#define OUTER_WORDS 7
#define OUTER_LEN   20
#define OUTER6_LEN  40

volatile const __u64 outer[OUTER_WORDS];
volatile const __u32 outer_sum;
volatile const __u32 out_ifindex; // 0: where the frame came from

// encapsulate puts every IPv4 packet into an IP tunnel to one and the same
// backend: the least that any balancer in XDP does.
SEC("xdp")
int encapsulate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + OFF_L4 > end || *(__u16 *)(data + OFF_ETHERTYPE) != bpf_htons(ETHERTYPE_IPV4))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -OUTER_LEN))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + OFF_L4 + OUTER_LEN > end)
		return XDP_ABORTED;

	__u64 *words = data;
	#pragma unroll
	for (int i = 0; i < 4; i++)
		words[i] = outer[i];
	*(__u16 *)(data + 32) = outer[4];
	__u16 length = bpf_htons(end - data - OFF_IP);
	*(__u16 *)(data + OFF_IP_LENGTH) = length;
	*(__u16 *)(data + OFF_IP_SUM) = ~fold((__u64)outer_sum + length);
	if (out_ifindex)
		return bpf_redirect(out_ifindex, 0);
	return XDP_TX;
}

// encapsulate6 does the same with IPv6 packets.
SEC("xdp")
int encapsulate6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + OFF6_L4 > end || *(__u16 *)(data + OFF_ETHERTYPE) != bpf_htons(ETHERTYPE_IPV6) ||
	    *(__u8 *)(data + OFF6_NEXT) == NEXT_ICMPV6)
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -OUTER6_LEN))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + OFF6_L4 + OUTER6_LEN > end)
		return XDP_ABORTED;

	__u64 *words = data;
	#pragma unroll
	for (int i = 0; i < 6; i++)
		words[i] = outer[i];
	*(__u32 *)(data + 48) = outer[6];
	*(__u16 *)(data + 52) = outer[6] >> 32;
	*(__u16 *)(data + OFF6_LENGTH) = bpf_htons(end - data - OFF6_L4);
	if (out_ifindex)
		return bpf_redirect(out_ifindex, 0);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
