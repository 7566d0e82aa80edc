// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* from_mesh: ingress of the WireGuard interface, everything that other hosts send. Packets begin at
 * the IPv6 header. The numbers are those of from_mesh in docs/architecture.md.
 */
#include "lib/access.h"
#include "lib/config.h"
#include "lib/locate.h"
#include "lib/outcome.h"
#include "lib/parse.h"
#include "lib/rewrite.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HOP_LIMIT_OFFSET 7

/* The destination moved on: send the packet after it, as this host. */
static __always_inline struct outcome forward(struct __sk_buff *skb, const struct packet *p)
{
	struct location *there = bpf_map_lookup_elem(&location, &p->destination.lower_be);
	__u8 hop_limit = p->hop_limit - 1;

	if (!there)
		return drop(DROP_DESTINATION_NOT_HERE);
	if (p->hop_limit <= 1)
		return drop(DROP_HOP_LIMIT);
	if (bpf_skb_store_bytes(skb, HOP_LIMIT_OFFSET, &hop_limit, sizeof(hop_limit), 0) ||
	    write_uppers(skb, 0, config.locator_be, there->locator_be))
		return drop(DROP_KERNEL);
	return pass(PASS_FORWARDED, config.mesh_ifindex);
}

static __always_inline struct outcome deliver(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *to = bpf_map_lookup_elem(&endpoint, &p->destination.lower_be);

	if (!to) /* 7 */
		return drop(DROP_NO_ENDPOINT);
	if (bpf_skb_change_head(skb, ETH_HLEN, 0) ||
	    write_uppers(skb, ETH_HLEN, config.prefix_be, config.prefix_be) ||
	    write_ethernet(skb, to->mac))
		return drop(DROP_KERNEL);
	return pass_to_endpoint(skb, PASS_FROM_MESH, to, p->destination.lower_be);
}

static __always_inline struct outcome receive(struct __sk_buff *skb)
{
	const __be64 top_be = bpf_cpu_to_be64(0xffff000000000000ULL);
	struct transition *moving;
	enum verdict verdict;
	struct packet p = {};

	verdict = parse(skb, 0, &p); /* 1 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	if (p.destination.upper_be != config.locator_be ||
	    (p.source.upper_be & top_be) != (config.locator_be & top_be)) /* 2 */
		return drop(DROP_NOT_ENCODED);
	if (!may_speak(p.source.upper_be, p.source.lower_be, p.destination.lower_be)) /* 3 */
		return drop(DROP_SOURCE_NOT_AT_SENDER);
	if (is_link_talk(&p)) /* 4 */
		return drop(DROP_NEIGHBOUR_DISCOVERY);
	if (!is_located_at(p.destination.lower_be, config.locator_be)) { /* 5 */
		moving = find_transition(p.destination.lower_be);
		if (moving && moving->source_be == config.locator_be)
			return forward(skb, &p);
		if (!moving || moving->destination_be != config.locator_be)
			return drop(DROP_DESTINATION_NOT_HERE);
	}
	verdict = check_access(&p); /* 6 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	return deliver(skb, &p);
}

SEC("tc")
int from_mesh(struct __sk_buff *skb)
{
	__u32 bytes = skb->len;
	struct outcome outcome = receive(skb);

	return conclude(&outcome, bytes);
}
