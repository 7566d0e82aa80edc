/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The packet that an ICMPv6 error quotes: line 3 of "Access" in docs/architecture.md. */
#ifndef NETAGENT_QUOTE_H
#define NETAGENT_QUOTE_H

#include "config.h"
#include "conntrack.h"
#include "parse.h"

#define ICMP_HEADER_BYTES 8
#define QUOTED_TRANSPORT_BYTES 8

static __always_inline bool is_same(const struct halves *a, const struct halves *b)
{
	return a->upper_be == b->upper_be && a->lower_be == b->lower_be;
}

/* Reads who talked to whom; returns false when the quote is too short or not of a flow. */
static __always_inline bool read_quote(struct __sk_buff *skb, const struct packet *p,
				       struct talk *quoted)
{
	__u32 at = p->transport + ICMP_HEADER_BYTES;
	struct {
		struct ipv6hdr ip;
		union {
			__be16 ports_be[2];
			struct {
				__u8 type;
				__u8 code;
				__be16 checksum_be;
				__be16 identifier_be;
			} icmp;
			__u8 bytes[QUOTED_TRANSPORT_BYTES];
		};
	} quote;

	if (at + sizeof(quote) > p->end || bpf_skb_load_bytes(skb, at, &quote, sizeof(quote)) ||
	    quote.ip.version != 6)
		return false;
	__builtin_memcpy(&quoted->source, &quote.ip.saddr, sizeof(quoted->source));
	__builtin_memcpy(&quoted->destination, &quote.ip.daddr, sizeof(quoted->destination));
	quoted->protocol = quote.ip.nexthdr;
	quoted->icmp_type = quote.icmp.type;
	quoted->source_port_be = 0;
	quoted->destination_port_be = 0;
	switch (quoted->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		quoted->source_port_be = quote.ports_be[0];
		quoted->destination_port_be = quote.ports_be[1];
		break;
	case IPPROTO_ICMPV6:
		if (quote.icmp.type == ICMP_ECHO_REQUEST)
			quoted->source_port_be = quote.icmp.identifier_be;
		else if (quote.icmp.type == ICMP_ECHO_REPLY)
			quoted->destination_port_be = quote.icmp.identifier_be;
		else
			return false;
		break;
	}
	quoted->is_from_outside = quoted->source.upper_be != config.prefix_be;
	quoted->is_to_outside = quoted->destination.upper_be != config.prefix_be;
	return !(quoted->is_from_outside && quoted->is_to_outside);
}

#endif
