// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Memory of a CPU's own for what a program knows of the frame it is at. The
// stack would do, but for a program that is loaded without CAP_PERFMON the
// kernel puts a barrier against speculation behind the first store to each place
// of it, and behind each register that is put there: some 15 ns each, ten to
// thirty times a frame. So there is nothing on the stack: what is to outlast the
// call of a helper lies here, or is one of the four pointers that registers
// keep. Keys of maps lie here or among constants.
//
// Programs do not interrupt one another on a CPU: they run with softirqs
// disabled. (Only BPF_PROG_TEST_RUN on frames that are not live leaves them
// enabled: not while there is traffic.)

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

struct scratch {
	struct addr address; // the frame is for it: key in locals
	struct addr source;  // key in denied
	__u32 index;         // key in an array

	// Of the local: the map's entry itself is not kept.
	__u16 local;
	__u8 fail_action;

	// A plain packet, see memo_carry.h.
	__u8 is_tcp;
	__u8 tos;
	__u8 dont_fragment;
	__u16 id; // of outer packets that may be fragmented: it counts them
	__u32 frame_len;
	__u32 ip_len;
	__u32 excess; // bytes behind the IP packet
	__u32 longer; // what the frame has become longer by
	__u32 now;
	__u32 action; // what the kernel shall do with it

	// Its key, and where to look for it.
	__u64 key_hi;
	__u64 key_lo;
	__u64 key_rest;
	__u64 hash;
	__u64 sets; // in use, less one
	__u32 place; // of its entry

	// What its memo says.
	__u64 control;
	__u64 nat;
	__u64 via_hi;
	__u64 via_lo;
	__u32 entropy;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

// settled keeps the compiler from moving loads and stores across it: what was
// stored before is read from memory after, not kept in a register, for which
// there would be no place but the stack.
#define settled() asm volatile("" ::: "memory")

// apart keeps the compiler from making one piece of code of several in which a
// pointer is at different constant distances from the start of what it points
// into: a distance that is not constant needs CAP_PERFMON.
static __always_inline void *apart(void *p)
{
	asm volatile("" : "+r"(p));
	return p;
}

// scratch_of is s, and keeps the compiler from computing the address of one of
// its fields ahead of time, for which there would be no place but the stack.
static __always_inline struct scratch *scratch_of(struct scratch *s)
{
	return apart(s);
}
