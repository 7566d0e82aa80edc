// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* from_machine: ingress of a machine's interface, everything that the machine sends. */
#include "lib/send.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int from_machine(struct __sk_buff *skb)
{
	struct run *run = begin_run();
	__u32 bytes = skb->len;
	struct outcome outcome;

	if (!run)
		return TC_ACT_SHOT;
	outcome = send(skb, run, PROGRAM_FROM_MACHINE);
	return conclude(&outcome, run, PROGRAM_FROM_MACHINE, bytes);
}
