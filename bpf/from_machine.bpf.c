// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* from_machine: ingress of a machine's interface, everything that the machine sends. */
#include "lib/send.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int from_machine(struct __sk_buff *skb)
{
	__u32 bytes = skb->len;
	struct outcome outcome = send(skb);

	return conclude(&outcome, bytes);
}
