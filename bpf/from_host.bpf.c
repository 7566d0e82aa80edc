// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* from_host: ingress of the gateway's side of the host's own veth pair, everything that the host's
 * stack sends under its stable address. The host is one more endpoint, in network 0.
 */
#include "lib/send.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int from_host(struct __sk_buff *skb)
{
	struct run *run = begin_run();
	__u32 bytes = skb->len;
	struct outcome outcome;

	if (!run)
		return TC_ACT_SHOT;
	outcome = send(skb, run, PROGRAM_FROM_HOST);
	return conclude(&outcome, run, PROGRAM_FROM_HOST, bytes);
}
