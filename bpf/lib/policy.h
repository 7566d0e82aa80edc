/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a policy says to the first packet of a flow: line 7 of "Access" in docs/architecture.md, and
 * "Compiled form" in docs/policy.md.
 *
 * All precedence was resolved by the compiler: there is one class for a pair, one interval for a port.
 */
#ifndef NETAGENT_POLICY_H
#define NETAGENT_POLICY_H

#include "judgement.h"
#include "maps.h"

#define STRANGER 0
#define OTHER_PROTOCOLS 0
/* 2^16 intervals are as many as ports. */
#define SEARCH_STEPS 17

static __always_inline __u32 network_of(__be64 id_be)
{
	return bpf_be64_to_cpu(id_be) >> 32;
}

/* Whose policy speaks for an end; 0 for nobody. */
static __always_inline __u32 asked_by_sender(const struct question *q)
{
	return q->source.network == NETWORK_OUTSIDE ? 0 : q->source.network;
}

static __always_inline __u32 asked_by_receiver(const struct question *q)
{
	if (q->destination.network == NETWORK_OUTSIDE)
		return 0;
	return q->destination.network == NETWORK_HOSTS ? asked_by_sender(q)
						       : q->destination.network;
}

static __always_inline __u8 direction_of(const struct question *q, __u32 network)
{
	if (q->source.network == q->destination.network)
		return DIRECTION_INSIDE;
	return q->source.network == network ? DIRECTION_EGRESS : DIRECTION_INGRESS;
}

static __always_inline __u32 identity_of(const struct end *end, __u32 network, __u32 slot)
{
	struct policy_prefix key = { .prefix_bits = 192, .network = network, .slot = slot };
	__u32 *identity;

	if (end->network != NETWORK_OUTSIDE)
		return end->identity;
	__builtin_memcpy(key.address, &end->address, sizeof(key.address));
	identity = bpf_map_lookup_elem(&policy_prefix, &key);
	return identity ? *identity : STRANGER;
}

/* What is in force of a network under the generation of a question. */
struct revision {
	__u32 slot;
	__u32 version;
	__u64 default_class; /* Of the direction that is asked. */
};

static __always_inline __u64 default_of(const __u64 *defaults, __u8 direction)
{
	if (direction == DIRECTION_INSIDE)
		return defaults[DIRECTION_INSIDE];
	return direction == DIRECTION_EGRESS ? defaults[DIRECTION_EGRESS]
					     : defaults[DIRECTION_INGRESS];
}

static __always_inline struct revision find_revision(const struct policy_network *in,
						     __u32 generation, __u8 direction)
{
	bool is_turned = (__s32)(generation - in->turn) >= 0;
	struct revision revision = {
		.slot = is_turned ? in->slot : in->old_slot,
		.version = is_turned ? in->version : in->old_version,
		.default_class = is_turned ? default_of(in->defaults, direction)
					   : default_of(in->old_defaults, direction),
	};

	return revision;
}

static __always_inline __u64 find_class(const struct question *q, const struct revision *revision,
					struct answer *a)
{
	struct policy_pair pair = { .network = a->network, .direction = a->direction };
	__u64 *class_id;

	pair.slot = revision->slot;
	pair.source = identity_of(&q->source, a->network, revision->slot);
	pair.destination = identity_of(&q->destination, a->network, revision->slot);
	class_id = bpf_map_lookup_elem(&policy_pair, &pair);
	if (!class_id && a->direction != DIRECTION_INSIDE) {
		if (a->direction == DIRECTION_EGRESS)
			pair.destination = STRANGER;
		else
			pair.source = STRANGER;
		class_id = bpf_map_lookup_elem(&policy_pair, &pair);
	}
	return class_id ? *class_id : revision->default_class;
}

static __always_inline struct policy_interval *find_interval(__u64 class_id, __u8 protocol,
							     __u16 port)
{
	struct policy_class key = { .class_id = class_id, .protocol = protocol };
	struct interval_range *range = bpf_map_lookup_elem(&policy_class, &key);
	struct policy_interval *interval;
	__u32 low, high, middle;

	if (!range) {
		key.protocol = OTHER_PROTOCOLS;
		range = bpf_map_lookup_elem(&policy_class, &key);
		if (!range)
			return NULL;
	}
	low = range->first;
	high = low + range->count;
	for (int i = 0; i < SEARCH_STEPS && high - low > 1; i++) {
		middle = low + (high - low) / 2;
		interval = bpf_map_lookup_elem(&policy_interval, &middle);
		if (!interval)
			return NULL;
		if (interval->first_port <= port)
			low = middle;
		else
			high = middle;
	}
	return bpf_map_lookup_elem(&policy_interval, &low);
}

static __always_inline __u32 index_of(__u32 network, __u32 number)
{
	struct rule key = { .network = network, .number = number };
	__u32 *index = bpf_map_lookup_elem(&rule_index, &key);

	return index ? *index : 0;
}

/* Asks the policy of `network`; returns false when this host does not have it. */
static __noinline bool ask(const struct question *q, __u32 network, struct answer *a)
{
	struct policy_network *in = bpf_map_lookup_elem(&policy_network, &network);
	struct policy_interval *interval;
	struct revision revision;

	if (!in)
		return false;
	a->network = network;
	a->direction = direction_of(q, network);
	revision = find_revision(in, q->generation, a->direction);
	a->version = revision.version;
	interval = find_interval(find_class(q, &revision, a), q->protocol, q->port);
	if (!interval)
		return false;
	a->is_allowed = interval->is_allowed;
	a->is_audited = interval->is_audited;
	a->rule = interval->rule;
	a->audit_rule = interval->audit_rule;
	a->rule_index = index_of(network, a->rule);
	a->audit_index = a->is_audited ? index_of(network, a->audit_rule) : 0;
	return true;
}

static __always_inline enum verdict ask_end(const struct question *q, __u32 network,
					    struct answer *a, enum verdict denied)
{
	if (network == 0)
		return VERDICT_NONE;
	if (!ask(q, network, a))
		return DROP_NO_POLICY;
	return a->is_allowed ? VERDICT_NONE : denied;
}

/* Asks for each end that is here; returns a verdict. Global, so that the verifier reads it once and
 * not on every way to it; for that it must expect NULL.
 */
__noinline int evaluate(const struct question *q, struct judgement *j)
{
	enum verdict verdict = VERDICT_NONE;
	__u32 sender, receiver;

	if (!q || !j)
		return DROP_KERNEL;
	sender = asked_by_sender(q);
	receiver = asked_by_receiver(q);
	j->is_evaluated = true;
	if (q->source.is_here)
		verdict = ask_end(q, sender, &j->egress, DROP_DENIED_EGRESS);
	if (verdict != VERDICT_NONE || !q->destination.is_here)
		return verdict;
	if (q->source.is_here && sender == receiver)
		return VERDICT_NONE;
	return ask_end(q, receiver, &j->ingress, DROP_DENIED_INGRESS);
}

#endif
