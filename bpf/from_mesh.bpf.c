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

/* The host of `sender_be` took the destination for being here. */
static __always_inline void count_misdirected(__be64 sender_be, bool is_forwarded)
{
	struct misdirected first = { .forwarded = is_forwarded, .dropped = !is_forwarded };
	struct misdirected *counted = bpf_map_lookup_elem(&misdirected, &sender_be);

	if (!counted)
		bpf_map_update_elem(&misdirected, &sender_be, &first, BPF_NOEXIST);
	else
		__sync_fetch_and_add(is_forwarded ? &counted->forwarded : &counted->dropped, 1);
}

/* The destination moved on: send the packet after it, as this host. */
static __always_inline struct outcome forward(struct __sk_buff *skb, const struct packet *p,
					      __be64 locator_be)
{
	__u8 hop_limit = p->hop_limit - 1;

	count_misdirected(p->source.upper_be, p->hop_limit > 1);
	if (p->hop_limit <= 1)
		return drop(DROP_HOP_LIMIT);
	if (bpf_skb_store_bytes(skb, HOP_LIMIT_OFFSET, &hop_limit, sizeof(hop_limit), 0) ||
	    write_uppers(skb, 0, config.locator_be, locator_be))
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

static __always_inline struct outcome receive(struct __sk_buff *skb, struct run *run)
{
	const __be64 top_be = bpf_cpu_to_be64(0xffff000000000000ULL);
	struct location *source, *destination;
	struct question *q = &run->question;
	struct packet *p = &run->packet;
	struct transition *moving;
	enum verdict verdict;

	verdict = parse(skb, 0, p); /* 1 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	if (p->destination.upper_be != config.locator_be ||
	    (p->source.upper_be & top_be) != (config.locator_be & top_be)) /* 2 */
		return drop(DROP_NOT_ENCODED);
	source = bpf_map_lookup_elem(&location, &p->source.lower_be);
	if (!source || !may_speak(p->source.upper_be, source, p->source.lower_be,
				  p->destination.lower_be)) /* 3 */
		return drop(DROP_SOURCE_NOT_AT_SENDER);
	q->source.network = network_of(p->source.lower_be);
	q->source.identity = source->identity;
	if (is_link_talk(p)) /* 4 */
		return drop(DROP_NEIGHBOUR_DISCOVERY);
	destination = bpf_map_lookup_elem(&location, &p->destination.lower_be); /* 5 */
	if (!destination) {
		count_misdirected(p->source.upper_be, false);
		return drop(DROP_DESTINATION_NOT_HERE);
	}
	q->destination.network = network_of(p->destination.lower_be);
	q->destination.identity = destination->identity;
	q->destination.is_here = true;
	if (destination->locator_be != config.locator_be) {
		moving = find_transition(p->destination.lower_be, destination);
		if (moving && moving->source_be == config.locator_be)
			return forward(skb, p, destination->locator_be);
		if (!moving || moving->destination_be != config.locator_be) {
			count_misdirected(p->source.upper_be, false);
			return drop(DROP_DESTINATION_NOT_HERE);
		}
	}
	verdict = check_access(skb, run); /* 6 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	return deliver(skb, p);
}

SEC("tc")
int from_mesh(struct __sk_buff *skb)
{
	struct run *run = begin_run();
	__u32 bytes = skb->len;
	struct outcome outcome;

	if (!run)
		return TC_ACT_SHOT;
	outcome = receive(skb, run);
	return conclude(&outcome, run, PROGRAM_FROM_MESH, bytes);
}
