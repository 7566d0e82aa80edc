/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Tells whoever listens what was dropped, audited and begun, through a bucket of tokens for each
 * processor; what does not go is counted. Source: "Access" in docs/architecture.md.
 */
#ifndef NETAGENT_EVENTS_H
#define NETAGENT_EVENTS_H

#include "conntrack.h"
#include "judgement.h"

#define BUCKET_TOKENS 1000
#define TOKEN_INTERVAL_NS (NS_PER_S / 500)

static __always_inline bool take_token(struct event_bucket *bucket, bool is_urgent)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	__u64 earned = (now_ns - bucket->refilled_ns) / TOKEN_INTERVAL_NS;

	if (earned) {
		bucket->refilled_ns = now_ns;
		bucket->tokens += earned;
		if (bucket->tokens > BUCKET_TOKENS)
			bucket->tokens = BUCKET_TOKENS;
	}
	if (bucket->tokens <= (is_urgent ? 0 : BUCKET_TOKENS / 2)) {
		bucket->suppressed++;
		return false;
	}
	bucket->tokens--;
	return true;
}

/* Returns whether it was told. Global: see evaluate(). */
__noinline int report(const struct packet *p, const struct answer *a, __u32 bytes,
		      __u32 kind_verdict_program)
{
	__u8 kind = kind_verdict_program >> 16;
	struct event_bucket *bucket;
	struct event *event;
	__u32 key = 0;

	bucket = bpf_map_lookup_elem(&event_bucket, &key);
	if (!p || !a || !bucket || !take_token(bucket, kind != EVENT_FLOW))
		return false;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		bucket->lost++;
		return false;
	}
	event->time_ns = bpf_ktime_get_boot_ns();
	event->source_upper_be = p->source.upper_be;
	event->source_be = p->source.lower_be;
	event->destination_upper_be = p->destination.upper_be;
	event->destination_be = p->destination.lower_be;
	event->bytes = bytes;
	event->network = a->network;
	event->version = a->version;
	event->rule = a->rule;
	event->audit_rule = a->audit_rule;
	event->source_port_be = p->source_port_be;
	event->destination_port_be = p->destination_port_be;
	event->kind = kind;
	event->verdict = kind_verdict_program >> 8;
	event->program = kind_verdict_program;
	event->direction = a->direction;
	event->protocol = p->protocol;
	event->icmp_type = p->icmp_type;
	event->icmp_code = p->icmp_code;
	event->is_audited = a->is_audited;
	bpf_ringbuf_submit(event, 0);
	bucket->sent++;
	return true;
}

static __always_inline void report_packet(const struct packet *p, const struct judgement *j,
					  enum verdict verdict, enum program program, __u32 bytes)
{
	__u32 tail = verdict << 8 | program;

	if (verdict >= DROP_NOT_IPV6) {
		/* The receiver's answer is the one that decided, when there is one. */
		const struct answer *a = j->ingress.network ? &j->ingress : &j->egress;

		if (verdict != DROP_LINK_LOCAL && verdict != DROP_NOT_IPV6)
			report(p, a, bytes, EVENT_DROP << 16 | tail);
		return;
	}
	if (!j->is_evaluated)
		return;
	if (j->egress.is_audited)
		report(p, &j->egress, bytes, EVENT_AUDIT << 16 | tail);
	if (j->ingress.is_audited)
		report(p, &j->ingress, bytes, EVENT_AUDIT << 16 | tail);
	if (j->is_remembered)
		report(p, j->egress.network ? &j->egress : &j->ingress, bytes,
		       EVENT_FLOW << 16 | tail);
}

#endif
