// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Puts a packet back as it was before the program under test rewrote it, and runs that again: so the
 * kernel can repeat it, as hot as it gets. With its place empty, what is left is the cost of this.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HEAD_BYTES 54 /* Ethernet and IPv6. */
#define SOURCE_PORTS 60000
#define FIRST_SOURCE_PORT 1024
#define FIRST_DESTINATION_PORT 2000

/* Flows first, first + 1, … count of them, in turn. */
struct again {
	__u8 head[HEAD_BYTES + 2];
	__u32 first;
	__u32 count;
	__u32 next;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct again);
} again_packet SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} again_program SEC(".maps");

SEC("tc")
int again(struct __sk_buff *skb)
{
	__u32 key = 0, flow;
	__be16 ports[2];
	struct again *packet = bpf_map_lookup_elem(&again_packet, &key);

	if (!packet)
		return TC_ACT_SHOT;
	flow = packet->first + packet->next;
	packet->next = packet->next + 1 < packet->count ? packet->next + 1 : 0;
	ports[0] = bpf_htons(FIRST_SOURCE_PORT + flow % SOURCE_PORTS);
	ports[1] = bpf_htons(FIRST_DESTINATION_PORT + flow / SOURCE_PORTS);
	skb->mark = 0;
	if (bpf_skb_store_bytes(skb, 0, packet->head, HEAD_BYTES, 0) ||
	    bpf_skb_store_bytes(skb, HEAD_BYTES, ports, sizeof(ports), 0))
		return TC_ACT_SHOT;
	bpf_tail_call(skb, &again_program, 0);
	return TC_ACT_OK;
}
