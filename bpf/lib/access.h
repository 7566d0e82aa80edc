/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Who may talk to whom; the numbers are those of "Access" in docs/architecture.md.
 *
 * Asked at both ends: the receiver does not trust the sender's host to have asked.
 */
#ifndef NETAGENT_ACCESS_H
#define NETAGENT_ACCESS_H

#include "conntrack.h"
#include "parse.h"

static __always_inline __u32 network_of(__be64 id_be)
{
	return bpf_be64_to_cpu(id_be) >> 32;
}

static __always_inline enum verdict access_from_host(const struct packet *p)
{
	struct flow flow;

	if (p->is_fragment)
		return DROP_FRAGMENT;
	if (is_icmp_error(p))
		return VERDICT_NONE;
	if (!has_ports(p) && !(p->protocol == IPPROTO_ICMPV6 && p->icmp_type == ICMP_ECHO_REQUEST))
		return DROP_HOST_CLOSED;
	flow = flow_forward(p);
	return flow_remember(&flow) ? VERDICT_NONE : DROP_KERNEL;
}

static __always_inline enum verdict access_to_host(const struct packet *p)
{
	struct flow flow;

	if (p->is_fragment)
		return DROP_FRAGMENT;
	if (!has_ports(p) && !(p->protocol == IPPROTO_ICMPV6 && p->icmp_type == ICMP_ECHO_REPLY))
		return DROP_HOST_CLOSED;
	flow = flow_reverse(p);
	return flow_renew(&flow) ? VERDICT_NONE : DROP_HOST_CLOSED;
}

static __always_inline enum verdict check_access(const struct packet *p)
{
	__u32 source = network_of(p->source.lower_be);
	__u32 destination = network_of(p->destination.lower_be);

	if (source == destination) /* 1 */
		return VERDICT_NONE;
	if (source == 0) /* 2 */
		return access_from_host(p);
	if (destination == 0) /* 3 */
		return access_to_host(p);
	return DROP_ISOLATED; /* 4 */
}

#endif
