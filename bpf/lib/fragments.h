/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Later fragments follow the first one: line 2 of "Access" in docs/architecture.md. */
#ifndef NETAGENT_FRAGMENTS_H
#define NETAGENT_FRAGMENTS_H

#include "conntrack.h"
#include "judgement.h"

#define FRAGMENT_LIFETIME_NS (30 * NS_PER_S)

static __always_inline struct fragment fragment_key(const struct talk *t, const struct packet *p)
{
	struct fragment key = {
		.source_be = t->source.lower_be,
		.destination_be = t->destination.lower_be,
		.identification_be = p->identification_be,
		.is_outside = t->is_from_outside || t->is_to_outside,
	};

	if (t->is_from_outside)
		key.outside_be = t->source.upper_be;
	if (t->is_to_outside)
		key.outside_be = t->destination.upper_be;
	return key;
}

static __always_inline bool remember_fragment(const struct talk *t, const struct packet *p,
					      const struct judgement *j, __u64 now_ns,
					      __u32 generation)
{
	struct fragment key = fragment_key(t, p);
	struct fragment_state state = {
		.seen_ns = now_ns,
		.generation = generation,
		.egress_rule = j->egress.rule_index,
		.ingress_rule = j->ingress.rule_index,
	};

	return bpf_map_update_elem(&fragments, &key, &state, BPF_ANY) == 0;
}

static __always_inline enum verdict follow_fragment(const struct talk *t, const struct packet *p,
						    struct judgement *j, __u64 now_ns,
						    __u32 generation)
{
	struct fragment key = fragment_key(t, p);
	struct fragment_state *state = bpf_map_lookup_elem(&fragments, &key);

	if (!state || state->generation != generation ||
	    !is_within(now_ns, state->seen_ns, FRAGMENT_LIFETIME_NS))
		return DROP_FRAGMENT;
	j->egress.rule_index = state->egress_rule;
	j->ingress.rule_index = state->ingress_rule;
	return VERDICT_NONE;
}

#endif
