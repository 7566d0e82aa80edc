// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* to_machine: egress of a machine's interface. What our programs sent bears their mark; anything
 * else comes from the host's stack, from outside the overlay.
 */
#include "lib/outcome.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int to_machine(struct __sk_buff *skb)
{
	struct outcome outcome = drop(DROP_OUTSIDE);

	if (skb->mark == MARK_DECIDED) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	return conclude(&outcome, skb->len);
}
