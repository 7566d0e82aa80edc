/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Who may talk to whom; the numbers are those of "Access" in docs/architecture.md.
 *
 * Asked at both ends: the receiver does not trust the sender's host to have asked.
 */
#ifndef NETAGENT_ACCESS_H
#define NETAGENT_ACCESS_H

#include "conntrack.h"
#include "fragments.h"
#include "locate.h"
#include "policy.h"
#include "quote.h"
#include "run.h"

static __always_inline __u32 current_generation(void)
{
	__u32 key = 0;
	struct policy_state *state = bpf_map_lookup_elem(&policy_state, &key);

	return state ? state->generation : 0;
}

static __always_inline __u16 asked_port(__u8 protocol, __u8 icmp_type, __u8 icmp_code,
					__be16 port_be)
{
	if (protocol == IPPROTO_ICMPV6)
		return icmp_type << 8 | icmp_code;
	return bpf_ntohs(port_be);
}

/* Which ends' policies have to have been asked, as flags of the flow. */
static __always_inline __u32 asked_flags(const struct question *q)
{
	return (q->source.is_here ? FLOW_ASKED_EGRESS : 0) |
	       (q->destination.is_here ? FLOW_ASKED_INGRESS : 0);
}

/* Turns the question about a packet into that about the first packet of its flow. */
static __always_inline void ask_of_flow(struct question *q, const struct flow *flow,
					const struct flow_state *state, bool is_high)
{
	bool is_from_high = state->flags & FLOW_FROM_HIGH;

	if (is_reply(state, is_high)) {
		struct end source = q->source;

		q->source = q->destination;
		q->destination = source;
	}
	q->port = asked_port(flow->protocol, ICMP_ECHO_REQUEST, 0,
			     is_from_high ? flow->low_port_be : flow->high_port_be);
}

/* 5: a packet of a known flow, or (3) one that quotes it. */
static __always_inline enum verdict judge_flow(struct question *q, const struct flow *flow,
					       struct flow_state *state, bool is_high,
					       __u32 generation, struct judgement *j)
{
	enum verdict verdict;
	__u32 asked;

	ask_of_flow(q, flow, state, is_high);
	asked = asked_flags(q);
	if (state->generation == generation && (state->flags & asked) == asked) {
		j->egress.rule_index = state->egress_rule;
		j->egress.audit_index = state->egress_audit;
		j->ingress.rule_index = state->ingress_rule;
		j->ingress.audit_index = state->ingress_audit;
		return VERDICT_NONE;
	}
	verdict = evaluate(q, j);
	if (verdict != VERDICT_NONE)
		return verdict;
	state->egress_rule = j->egress.rule_index;
	state->egress_audit = j->egress.audit_index;
	state->ingress_rule = j->ingress.rule_index;
	state->ingress_audit = j->ingress.audit_index;
	if (state->generation != generation)
		state->flags &= ~(FLOW_ASKED_EGRESS | FLOW_ASKED_INGRESS);
	__sync_fetch_and_or(&state->flags, asked);
	state->generation = generation;
	return VERDICT_NONE;
}

/* 3: whether an error belongs to a flow that is allowed. */
static __always_inline bool is_related(struct run *run, __u64 now_ns, __u32 generation)
{
	const struct end *source = &run->question.source;
	const struct end *destination = &run->question.destination;
	struct question *q = &run->quoted_question;
	const struct packet *p = &run->packet;
	struct talk *quoted = &run->quoted;
	struct flow_state *state;
	struct location *there;
	struct flow flow;
	bool is_high;
	bool is_own = quoted->destination.lower_be == p->source.lower_be &&
		      !quoted->is_to_outside && source->network != NETWORK_OUTSIDE;

	if (destination->network == NETWORK_OUTSIDE) {
		if (!is_same(&quoted->source, &p->destination))
			return false;
	} else if (quoted->is_from_outside || quoted->source.lower_be != p->destination.lower_be) {
		return false;
	}
	/* A machine speaks for nobody but itself. */
	if (source->network != NETWORK_OUTSIDE && source->network != NETWORK_HOSTS && !is_own)
		return false;
	is_high = make_flow(quoted, &flow);
	state = find_flow(quoted, &flow, is_high, now_ns);
	if (!state)
		return false;
	q->source = *destination;
	q->protocol = quoted->protocol;
	q->generation = generation;
	if (is_own) {
		q->destination = *source;
	} else {
		q->destination.is_here = false;
		q->destination.address = quoted->destination;
		q->destination.network = NETWORK_OUTSIDE;
		if (!quoted->is_to_outside) {
			there = bpf_map_lookup_elem(&location, &quoted->destination.lower_be);
			if (!there)
				return false;
			q->destination.network = network_of(quoted->destination.lower_be);
			q->destination.identity = there->identity;
		}
	}
	return judge_flow(q, &flow, state, is_high, generation, &run->judgement) == VERDICT_NONE;
}

static __always_inline bool can_be_remembered(const struct packet *p)
{
	return p->protocol != IPPROTO_ICMPV6 || p->icmp_type == ICMP_ECHO_REQUEST;
}

static __always_inline bool remember_flow(const struct packet *p, const struct question *q,
					  const struct flow *flow, bool is_high,
					  const struct judgement *j, __u64 now_ns, __u32 generation)
{
	struct flow_state state = {
		.seen_ns = now_ns,
		.generation = generation,
		.flags = asked_flags(q) | flags_of(p, is_high) | (is_high ? FLOW_FROM_HIGH : 0),
		.egress_rule = j->egress.rule_index,
		.egress_audit = j->egress.audit_index,
		.ingress_rule = j->ingress.rule_index,
		.ingress_audit = j->ingress.audit_index,
	};

	return bpf_map_update_elem(&conntrack, flow, &state, BPF_ANY) == 0;
}

/* 4 to 6. */
static __always_inline enum verdict judge_packet(struct run *run, __u64 now_ns, __u32 generation)
{
	struct judgement *j = &run->judgement;
	struct question *q = &run->question;
	struct packet *p = &run->packet;
	struct flow_state *state = NULL;
	enum verdict verdict;
	struct flow flow;
	bool is_high;
	__u32 flags;

	is_high = make_flow(&run->talk, &flow);
	if (!begins_anew(p))
		state = find_flow(&run->talk, &flow, is_high, now_ns);
	if (state) {
		verdict = judge_flow(q, &flow, state, is_high, generation, j);
		if (verdict != VERDICT_NONE) {
			bpf_map_delete_elem(&conntrack, &flow);
			return verdict;
		}
		flags = flags_of(p, is_high);
		if (is_reply(state, is_high))
			flags |= FLOW_ANSWERED;
		renew(state, now_ns, flags);
		return VERDICT_NONE;
	}
	verdict = evaluate(q, j);
	if (verdict != VERDICT_NONE || !can_be_remembered(p))
		return verdict;
	j->is_remembered = true;
	return remember_flow(p, q, &flow, is_high, j, now_ns, generation) ? VERDICT_NONE
									  : DROP_KERNEL;
}

/* The ends of the question are known; what the packet itself says is filled in here. */
static __always_inline enum verdict check_access(struct __sk_buff *skb, struct run *run)
{
	struct question *q = &run->question;
	struct packet *p = &run->packet;
	struct talk *t = &run->talk;
	enum verdict verdict;
	__u32 generation;
	__u64 now_ns;

	if (q->source.network == NETWORK_HOSTS && q->destination.network == NETWORK_HOSTS) /* 1 */
		return VERDICT_NONE;
	/* Before any policy is read: what is decided while it turns is asked again. */
	generation = current_generation();
	now_ns = bpf_ktime_get_coarse_ns();
	t->source = p->source;
	t->destination = p->destination;
	t->source_port_be = p->source_port_be;
	t->destination_port_be = p->destination_port_be;
	t->protocol = p->protocol;
	t->icmp_type = p->icmp_type;
	t->is_from_outside = q->source.network == NETWORK_OUTSIDE;
	t->is_to_outside = q->destination.network == NETWORK_OUTSIDE;
	if (p->is_later_fragment) /* 2 */
		return follow_fragment(t, p, &run->judgement, now_ns, generation);
	q->protocol = p->protocol;
	q->generation = generation;
	q->port = asked_port(p->protocol, p->icmp_type, p->icmp_code, p->destination_port_be);
	if (is_icmp_error(p) && read_quote(skb, p, &run->quoted)) { /* 3 */
		if (is_related(run, now_ns, generation))
			return VERDICT_NONE;
		__builtin_memset(&run->judgement, 0, sizeof(run->judgement));
	}
	verdict = judge_packet(run, now_ns, generation); /* 4, 5, 6 */
	if (verdict == VERDICT_NONE && p->is_fragment &&
	    !remember_fragment(t, p, &run->judgement, now_ns, generation))
		return DROP_KERNEL;
	return verdict;
}

#endif
