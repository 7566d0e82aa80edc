// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* to_machine: egress of a machine's interface. What our programs sent bears their mark; anything
 * else comes from the host's stack, from outside the overlay.
 */
#include "lib/outcome.h"
#include "lib/parse.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int to_machine(struct __sk_buff *skb)
{
	struct outcome outcome = drop(DROP_OUTSIDE);
	struct run *run;

	if (skb->mark == MARK_DECIDED) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	run = begin_run();
	if (!run)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		parse(skb, ETH_HLEN,
		      &run->packet); /* For the report: it is dropped whatever it is. */
	return conclude(&outcome, run, PROGRAM_TO_MACHINE, skb->len);
}
