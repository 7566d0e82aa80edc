/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Flows that a host began, so that machines may answer it and no more.
 *
 * An entry is refreshed in place: an update of an LRU map costs ten times a lookup.
 */
#ifndef NETAGENT_CONNTRACK_H
#define NETAGENT_CONNTRACK_H

#include "maps.h"
#include "parse.h"

#define ICMP_ECHO_REQUEST 128
#define ICMP_ECHO_REPLY 129

#define NS_PER_S 1000000000ULL
#define TIMEOUT_TCP_NS (7200 * NS_PER_S)
#define TIMEOUT_OTHER_NS (120 * NS_PER_S)

static __always_inline bool has_ports(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP ||
	       p->protocol == IPPROTO_SCTP;
}

/* The flow of a packet that the host sent. */
static __always_inline struct flow flow_forward(const struct packet *p)
{
	struct flow flow = {
		.source_be = p->source.lower_be,
		.destination_be = p->destination.lower_be,
		.source_port_be = p->source_port_be,
		.destination_port_be = p->destination_port_be,
		.protocol = p->protocol,
	};
	return flow;
}

/* The flow of a packet that answers the host. */
static __always_inline struct flow flow_reverse(const struct packet *p)
{
	struct flow flow = {
		.source_be = p->destination.lower_be,
		.destination_be = p->source.lower_be,
		.source_port_be = p->destination_port_be,
		.destination_port_be = p->source_port_be,
		.protocol = p->protocol,
	};
	return flow;
}

/* Returns false when the flow could not be remembered. */
static __always_inline bool flow_remember(const struct flow *flow)
{
	struct flow_state *known = bpf_map_lookup_elem(&conntrack, flow);
	struct flow_state state = { .seen_ns = bpf_ktime_get_boot_ns() };

	if (known) {
		known->seen_ns = state.seen_ns;
		return true;
	}
	return bpf_map_update_elem(&conntrack, flow, &state, BPF_ANY) == 0;
}

/* Returns whether the flow is known and alive, and renews it. */
static __always_inline bool flow_renew(const struct flow *flow)
{
	struct flow_state *known = bpf_map_lookup_elem(&conntrack, flow);
	__u64 timeout_ns = flow->protocol == IPPROTO_TCP ? TIMEOUT_TCP_NS : TIMEOUT_OTHER_NS;
	__u64 now_ns = bpf_ktime_get_boot_ns();

	/* Another processor may have seen the flow a moment after `now_ns` was read. */
	if (!known || (now_ns > known->seen_ns && now_ns - known->seen_ns > timeout_ns))
		return false;
	known->seen_ns = now_ns;
	return true;
}

#endif
