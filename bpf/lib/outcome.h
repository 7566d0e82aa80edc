/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How every program ends: one verdict, counted once, and the action that follows from it. */
#ifndef NETAGENT_OUTCOME_H
#define NETAGENT_OUTCOME_H

#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "config.h"
#include "events.h"
#include "maps.h"
#include "run.h"

/* On packets that a program sent to a machine, so that to_machine lets them pass: "na". */
#define MARK_DECIDED 0x6e610000

struct outcome {
	enum verdict verdict;
	__u32 ifindex; /* Where the packet (or the answer to it) goes; 0: nowhere. */
	bool is_peer; /* To the other end of that veth, past its queue. */
};

static __always_inline struct outcome drop(enum verdict verdict)
{
	struct outcome outcome = { .verdict = verdict };

	return outcome;
}

static __always_inline struct outcome pass(enum verdict verdict, __u32 ifindex)
{
	struct outcome outcome = { .verdict = verdict, .ifindex = ifindex };

	return outcome;
}

/* To a machine of this host, or to the host's own stack, whose interface `to` is. */
static __always_inline struct outcome pass_to_endpoint(struct __sk_buff *skb, enum verdict verdict,
						       const struct endpoint *to, __be64 id_be)
{
	struct outcome outcome = { .verdict = verdict, .ifindex = to->ifindex };

	if (id_be == config.host_id_be) {
		outcome.verdict = PASS_TO_HOST;
	} else if (to->flags & ENDPOINT_PEER) {
		outcome.is_peer = true;
	} else {
		skb->mark = MARK_DECIDED;
	}
	return outcome;
}

static __always_inline void count_rule(__u32 index, bool is_receiver, bool is_audit,
				       bool is_allowed, __u32 bytes)
{
	__u32 key = index * 2 + is_receiver;
	struct rule_counter *rule;
	struct counter *counter;

	if (!index)
		return;
	rule = bpf_map_lookup_elem(&rule_counters, &key);
	if (!rule)
		return;
	counter = is_audit ? &rule->audited : is_allowed ? &rule->allowed : &rule->denied;
	counter->packets++;
	counter->bytes += bytes;
}

/* Answers that the flow remembers allowed it. */
static __always_inline void count_answers(const struct judgement *j, __u32 bytes)
{
	bool is_known = !j->is_evaluated;

	count_rule(j->egress.rule_index, false, false, is_known || j->egress.is_allowed, bytes);
	count_rule(j->egress.audit_index, false, true, true, bytes);
	count_rule(j->ingress.rule_index, true, false, is_known || j->ingress.is_allowed, bytes);
	count_rule(j->ingress.audit_index, true, true, true, bytes);
}

static __always_inline int conclude(const struct outcome *outcome, const struct run *run,
				    enum program program, __u32 bytes)
{
	__u32 key = outcome->verdict;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += bytes;
	}
	count_answers(&run->judgement, bytes);
	report_packet(&run->packet, &run->judgement, outcome->verdict, program, bytes);
	if (outcome->verdict == PASS_TO_OUTSIDE)
		return TC_ACT_OK;
	if (!outcome->ifindex)
		return TC_ACT_SHOT;
	if (outcome->is_peer)
		return bpf_redirect_peer(outcome->ifindex, 0);
	return bpf_redirect(outcome->ifindex, 0);
}

#endif
