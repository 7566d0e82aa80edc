/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What one run of a program works with: more than its stack of 512 bytes holds. */
#ifndef NETAGENT_RUN_H
#define NETAGENT_RUN_H

#include <stddef.h>

#include "conntrack.h"
#include "judgement.h"
#include "parse.h"

struct run {
	struct packet packet;
	struct judgement judgement;
	struct question question; /* About the packet, then about the first one of its flow. */
	struct talk talk;
	struct talk quoted; /* By an ICMPv6 error, and the question about its flow. */
	struct question quoted_question;
};

/* One for each processor, which runs one program at a time. Each program has its own. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run);
} runs SEC(".maps");

static __always_inline struct run *begin_run(void)
{
	__u32 key = 0;
	struct run *run = bpf_map_lookup_elem(&runs, &key);

	if (run)
		__builtin_memset(run, 0, offsetof(struct run, talk));
	return run;
}

#endif
