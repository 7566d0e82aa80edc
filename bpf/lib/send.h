/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What an endpoint of this host sends; the numbers are those of from_machine in
 * docs/architecture.md.
 */
#ifndef NETAGENT_SEND_H
#define NETAGENT_SEND_H

#include <linux/if_packet.h>

#include "access.h"
#include "answer.h"
#include "config.h"
#include "locate.h"
#include "outcome.h"
#include "parse.h"
#include "rewrite.h"

#define AF_INET6 10

static __always_inline bool is_off_link(const struct packet *p)
{
	return !is_multicast(&p->source) && !is_multicast(&p->destination) &&
	       !is_link_local(&p->source) && !is_link_local(&p->destination) &&
	       !is_unspecified(&p->source);
}

static __always_inline bool is_same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

/* Whether the source is the endpoint's that owns this interface: 6 and 7. */
static __always_inline enum verdict check_source(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *from;
	__u8 mac[ETH_ALEN] __attribute__((aligned(4)));

	if (p->source.upper_be != config.prefix_be)
		return DROP_SPOOFED_ADDRESS;
	from = bpf_map_lookup_elem(&endpoint, &p->source.lower_be);
	if (!from || from->ifindex != skb->ifindex)
		return DROP_SPOOFED_ADDRESS;
	if (bpf_skb_load_bytes(skb, ETH_ALEN, mac, sizeof(mac)) || !is_same_mac(mac, from->mac))
		return DROP_SPOOFED_MAC;
	return VERDICT_NONE;
}

/* Bytes from the IPv6 header on of the largest packet that this one will be on a wire. */
static __always_inline __u32 wire_bytes(struct __sk_buff *skb, const struct packet *p)
{
	__u32 bytes = skb->len - p->l3;
	__u32 headers = p->transport - p->l3;
	__u8 offset;

	if (!skb->gso_size || bytes <= config.mtu_bytes)
		return bytes;
	if (p->protocol == IPPROTO_UDP)
		return headers + 8 + skb->gso_size;
	if (p->protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, p->transport + 12, &offset, 1))
		return bytes;
	return headers + (offset >> 4) * 4 + skb->gso_size;
}

static __always_inline struct outcome too_big(struct __sk_buff *skb, const struct packet *p)
{
	struct outcome outcome = drop(DROP_TOO_BIG);

	if (is_icmp_error(p) || p->is_later_fragment)
		return outcome;
	if (answer_too_big(skb, p, config.mtu_bytes))
		return drop(DROP_KERNEL);
	skb->mark = MARK_DECIDED;
	outcome.ifindex = skb->ifindex;
	return outcome;
}

static __always_inline struct outcome deliver(struct __sk_buff *skb, const struct packet *p)
{
	struct endpoint *to = bpf_map_lookup_elem(&endpoint, &p->destination.lower_be);

	if (!to)
		return drop(DROP_NO_ENDPOINT);
	if (write_ethernet(skb, to->mac))
		return drop(DROP_KERNEL);
	return pass_to_endpoint(skb, PASS_TO_LOCAL_MACHINE, to, p->destination.lower_be);
}

/* 9: what a machine sends outside goes to the host's stack, if that would forward it. */
static __always_inline struct outcome send_outside(struct __sk_buff *skb, struct run *run)
{
	struct question *q = &run->question;
	struct packet *p = &run->packet;
	struct bpf_fib_lookup route = { .family = AF_INET6, .ifindex = skb->ifindex };
	enum verdict verdict;
	long found;

	q->destination.network = NETWORK_OUTSIDE;
	q->destination.address = p->destination;
	verdict = check_access(skb, run);
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	__builtin_memcpy(route.ipv6_src, &p->source, sizeof(route.ipv6_src));
	__builtin_memcpy(route.ipv6_dst, &p->destination, sizeof(route.ipv6_dst));
	found = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	/* What does not fit, the stack answers itself, as it asks for a neighbour itself. */
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    found != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return drop(DROP_OUTSIDE);
	if (bpf_skb_change_type(skb, PACKET_HOST))
		return drop(DROP_KERNEL);
	return pass(PASS_TO_OUTSIDE, 0);
}

/* Who sends: an endpoint of this host (6 to 8), or what the host forwards from outside. */
static __always_inline enum verdict find_sender(struct __sk_buff *skb, const struct packet *p,
						enum program program, struct question *q)
{
	struct location *here;
	enum verdict verdict;

	if (program == PROGRAM_FROM_HOST && p->source.upper_be != config.prefix_be) {
		q->source.network = NETWORK_OUTSIDE;
		q->source.address = p->source;
		return p->destination.upper_be == config.prefix_be ? VERDICT_NONE : DROP_OUTSIDE;
	}
	verdict = check_source(skb, p);
	if (verdict != VERDICT_NONE)
		return verdict;
	here = find_at(p->source.lower_be, config.locator_be);
	if (!here)
		return DROP_NOT_LOCATED_HERE;
	q->source.network = network_of(p->source.lower_be);
	q->source.identity = here->identity;
	q->source.is_here = true;
	return VERDICT_NONE;
}

static __always_inline struct outcome send(struct __sk_buff *skb, struct run *run,
					   enum program program)
{
	struct question *q = &run->question;
	struct packet *p = &run->packet;
	struct location *there;
	enum verdict verdict;
	__be64 locator_be;

	if (skb->vlan_present || skb->protocol != bpf_htons(ETH_P_IPV6)) /* 1 */
		return drop(DROP_NOT_IPV6);
	verdict = parse(skb, ETH_HLEN, p); /* 2, 3 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	if (asks_for_gateway(skb, p)) { /* 4 */
		if (answer_solicitation(skb, p))
			return drop(DROP_KERNEL);
		skb->mark = MARK_DECIDED;
		return pass(PASS_NEIGHBOUR_ANSWERED, skb->ifindex);
	}
	if (!is_off_link(p)) /* 5 */
		return drop(DROP_LINK_LOCAL);
	verdict = find_sender(skb, p, program, q); /* 6, 7, 8 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	if (p->destination.upper_be != config.prefix_be) { /* 9 */
		if (program == PROGRAM_FROM_HOST)
			return drop(DROP_OUTSIDE);
		return send_outside(skb, run);
	}
	if (is_link_talk(p)) /* 10 */
		return drop(DROP_NEIGHBOUR_DISCOVERY);
	there = bpf_map_lookup_elem(&location, &p->destination.lower_be);
	if (!there) /* 11, and 6 */
		return drop(q->source.network == NETWORK_OUTSIDE ? DROP_OUTSIDE
								 : DROP_UNKNOWN_DESTINATION);
	locator_be = there->locator_be;
	q->destination.network = network_of(p->destination.lower_be);
	q->destination.identity = there->identity;
	q->destination.is_here = locator_be == config.locator_be;
	if (q->source.network == NETWORK_OUTSIDE && !q->destination.is_here) /* 6 */
		return drop(DROP_OUTSIDE);
	verdict = check_access(skb, run); /* 12 */
	if (verdict != VERDICT_NONE)
		return drop(verdict);
	if (wire_bytes(skb, p) > config.mtu_bytes) /* 13 */
		return too_big(skb, p);
	if (locator_be == config.locator_be) /* 14 */
		return deliver(skb, p);
	if (write_uppers(skb, ETH_HLEN, config.locator_be, locator_be)) /* 15 */
		return drop(DROP_KERNEL);
	return pass(PASS_TO_MESH, config.mesh_ifindex);
}

#endif
