/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Flows: one entry for both directions, how long it lives, and what a packet changes in it. Line 4 of
 * "Access" in docs/architecture.md.
 *
 * An entry is renewed in place: an update of an LRU map costs ten times a lookup.
 */
#ifndef NETAGENT_CONNTRACK_H
#define NETAGENT_CONNTRACK_H

#include "maps.h"
#include "parse.h"

#define NS_PER_S 1000000000ULL
#define TIMEOUT_TCP_NS (7200 * NS_PER_S)
#define TIMEOUT_OTHER_NS (120 * NS_PER_S)
#define TIMEOUT_UNANSWERED_NS (60 * NS_PER_S)
#define TIMEOUT_CLOSED_NS (30 * NS_PER_S)

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Who talks to whom, as one packet says it. */
struct talk {
	struct halves source;
	struct halves destination;
	__be16 source_port_be;
	__be16 destination_port_be;
	__u8 protocol;
	__u8 icmp_type;
	bool is_from_outside;
	bool is_to_outside;
};

static __always_inline bool is_high_source(const struct talk *t)
{
	__u64 source = bpf_be64_to_cpu(t->source.lower_be);
	__u64 destination = bpf_be64_to_cpu(t->destination.lower_be);

	if (t->is_from_outside || t->is_to_outside)
		return t->is_from_outside;
	if (source != destination)
		return source > destination;
	return bpf_ntohs(t->source_port_be) > bpf_ntohs(t->destination_port_be);
}

/* Fills the key, and returns whether the source is its `high` end. */
static __always_inline bool make_flow(const struct talk *t, struct flow *flow)
{
	bool is_high = is_high_source(t);

	flow->low_be = is_high ? t->destination.lower_be : t->source.lower_be;
	flow->high_be = is_high ? t->source.lower_be : t->destination.lower_be;
	flow->low_port_be = is_high ? t->destination_port_be : t->source_port_be;
	flow->high_port_be = is_high ? t->source_port_be : t->destination_port_be;
	flow->is_outside = t->is_from_outside || t->is_to_outside;
	flow->outside_be = 0;
	if (flow->is_outside)
		flow->outside_be = is_high ? t->source.upper_be : t->destination.upper_be;
	flow->protocol = t->protocol;
	flow->reserved[0] = 0;
	flow->reserved[1] = 0;
	return is_high;
}

static __always_inline __u64 timeout_ns(__u8 protocol, __u32 flags)
{
	const __u32 both = FLOW_FIN_LOW | FLOW_FIN_HIGH;

	if ((flags & FLOW_RESET) || (flags & both) == both)
		return TIMEOUT_CLOSED_NS;
	if (!(flags & FLOW_ANSWERED))
		return TIMEOUT_UNANSWERED_NS;
	return protocol == IPPROTO_TCP ? TIMEOUT_TCP_NS : TIMEOUT_OTHER_NS;
}

/* Whether a time is no longer ago than that. Signed: another processor may have written it a moment
 * after `now_ns` was read, and on a machine that has just booted it may lie before the boot.
 */
static __always_inline bool is_within(__u64 now_ns, __u64 then_ns, __u64 age_ns)
{
	return (__s64)(now_ns - then_ns) <= (__s64)age_ns;
}

/* Whether a packet that goes from the `high` end, or not, goes to the one that began. */
static __always_inline bool is_reply(const struct flow_state *state, bool is_high)
{
	return is_high != !!(state->flags & FLOW_FROM_HIGH);
}

/* ICMPv6 is of a flow as an echo request of the end that began, or as the other's reply. */
static __always_inline bool is_of_flow(const struct talk *t, const struct flow_state *state,
				       bool is_high)
{
	if (t->protocol != IPPROTO_ICMPV6)
		return true;
	return t->icmp_type == (is_reply(state, is_high) ? ICMP_ECHO_REPLY : ICMP_ECHO_REQUEST);
}

/* Returns the entry of a packet's flow, or NULL when there is none that is alive. */
static __always_inline struct flow_state *find_flow(const struct talk *t, const struct flow *flow,
						    bool is_high, __u64 now_ns)
{
	struct flow_state *state = bpf_map_lookup_elem(&conntrack, flow);

	if (!state || !is_of_flow(t, state, is_high) ||
	    !is_within(now_ns, state->seen_ns, timeout_ns(flow->protocol, state->flags)))
		return NULL;
	return state;
}

static __always_inline bool begins_anew(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && (p->tcp_flags & TCP_SYN) && !(p->tcp_flags & TCP_ACK);
}

/* What one packet says of its flow. */
static __always_inline __u32 flags_of(const struct packet *p, bool is_high)
{
	__u32 flags = 0;

	if (p->tcp_flags & TCP_FIN)
		flags |= is_high ? FLOW_FIN_HIGH : FLOW_FIN_LOW;
	if (p->tcp_flags & TCP_RST)
		flags |= FLOW_RESET;
	return flags;
}

static __always_inline void renew(struct flow_state *state, __u64 now_ns, __u32 flags)
{
	if (state->seen_ns != now_ns)
		state->seen_ns = now_ns;
	if ((state->flags & flags) != flags)
		__sync_fetch_and_or(&state->flags, flags);
}

#endif
