/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads what a verdict needs out of a packet, once.
 *
 * In: a packet whose IPv6 header begins at `l3` (0 on the mesh, 14 behind an Ethernet header).
 * Out: `struct packet`, or the verdict that the packet's form alone deserves.
 * Fields are copies: nothing here stays a pointer into the packet, so helpers that move it are safe.
 */
#ifndef NETAGENT_PARSE_H
#define NETAGENT_PARSE_H

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define MAX_EXTENSION_HEADERS 4
#define IPV6_HEADER_BYTES 40

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DESTINATION 60

#define ICMP_ECHO_REQUEST 128
#define ICMP_ECHO_REPLY 129
#define TCP_FLAGS_OFFSET 13

/* An IPv6 address as its two halves, network byte order. */
struct halves {
	__be64 upper_be;
	__be64 lower_be;
};

struct packet {
	struct halves source;
	struct halves destination;
	__u32 l3; /* Offset of the IPv6 header. */
	__u32 transport; /* Offset of the transport header. */
	__u32 end; /* Offset just past the IPv6 payload. */
	__be16 source_port_be; /* ICMPv6 echo: the identifier on the side that asks, 0 on the other. */
	__be16 destination_port_be;
	__be32 identification_be; /* Of a fragment. */
	__u8 hop_limit;
	__u8 protocol; /* After the extension headers. */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags; /* 0 when the packet ends before them. */
	bool is_fragment;
	bool is_later_fragment; /* Has no transport header. */
	bool is_extended; /* Has extension headers. */
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset_be; /* Upper 13 bits, in units of 8 bytes. */
	__be32 identification_be;
};

static __always_inline enum verdict walk_extension_headers(struct __sk_buff *skb, struct packet *p)
{
	struct fragment_header fragment;
	__u8 header[2];
	__u32 bytes;

	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		switch (p->protocol) {
		case NEXT_HOP_BY_HOP:
		case NEXT_DESTINATION:
			if (i == MAX_EXTENSION_HEADERS || (i > 0 && p->protocol == NEXT_HOP_BY_HOP))
				return DROP_EXTENSION_HEADER;
			if (bpf_skb_load_bytes(skb, p->transport, header, sizeof(header)))
				return DROP_MALFORMED;
			bytes = (header[1] + 1) * 8;
			if (p->transport + bytes > p->end)
				return DROP_MALFORMED;
			p->protocol = header[0];
			p->transport += bytes;
			break;
		case NEXT_FRAGMENT:
			if (i == MAX_EXTENSION_HEADERS)
				return DROP_EXTENSION_HEADER;
			if (p->transport + sizeof(fragment) > p->end ||
			    bpf_skb_load_bytes(skb, p->transport, &fragment, sizeof(fragment)))
				return DROP_MALFORMED;
			p->protocol = fragment.next;
			p->transport += sizeof(fragment);
			p->is_fragment = true;
			p->identification_be = fragment.identification_be;
			p->is_later_fragment = bpf_ntohs(fragment.offset_be) >> 3;
			if (p->is_later_fragment)
				return VERDICT_NONE;
			break;
		case NEXT_ROUTING:
			return DROP_EXTENSION_HEADER;
		default:
			return VERDICT_NONE;
		}
		p->is_extended = true;
	}
	return DROP_EXTENSION_HEADER;
}

static __always_inline enum verdict read_transport(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum_be;
		__be16 identifier_be;
		__be16 sequence_be;
	} icmp;
	__be16 ports_be[2];

	switch (p->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (p->transport + sizeof(ports_be) > p->end ||
		    bpf_skb_load_bytes(skb, p->transport, ports_be, sizeof(ports_be)))
			return DROP_MALFORMED;
		p->source_port_be = ports_be[0];
		p->destination_port_be = ports_be[1];
		if (p->protocol == IPPROTO_TCP && p->transport + TCP_FLAGS_OFFSET < p->end)
			bpf_skb_load_bytes(skb, p->transport + TCP_FLAGS_OFFSET, &p->tcp_flags, 1);
		break;
	case IPPROTO_ICMPV6:
		if (p->transport + sizeof(icmp) > p->end ||
		    bpf_skb_load_bytes(skb, p->transport, &icmp, sizeof(icmp)))
			return DROP_MALFORMED;
		p->icmp_type = icmp.type;
		p->icmp_code = icmp.code;
		if (icmp.type == ICMP_ECHO_REQUEST)
			p->source_port_be = icmp.identifier_be;
		if (icmp.type == ICMP_ECHO_REPLY)
			p->destination_port_be = icmp.identifier_be;
		break;
	}
	return VERDICT_NONE;
}

static __always_inline enum verdict parse(struct __sk_buff *skb, __u32 l3, struct packet *p)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + l3;
	enum verdict verdict;
	__u32 payload;

	if ((void *)(ip + 1) > data_end) {
		/* The header may lie in a page of its own, not in the linear part. */
		if (bpf_skb_pull_data(skb, l3 + IPV6_HEADER_BYTES))
			return DROP_MALFORMED;
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
		ip = data + l3;
		if ((void *)(ip + 1) > data_end)
			return DROP_MALFORMED;
	}
	payload = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || payload == 0 || l3 + IPV6_HEADER_BYTES + payload > skb->len)
		return DROP_MALFORMED;

	__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
	__builtin_memcpy(&p->destination, &ip->daddr, sizeof(p->destination));
	p->l3 = l3;
	p->transport = l3 + IPV6_HEADER_BYTES;
	p->end = p->transport + payload;
	p->hop_limit = ip->hop_limit;
	p->protocol = ip->nexthdr;

	verdict = walk_extension_headers(skb, p);
	if (verdict != VERDICT_NONE || p->is_later_fragment)
		return verdict;
	return read_transport(skb, p);
}

/* MLD, neighbour and router discovery: talk of one link, which never crosses the overlay. */
static __always_inline bool is_link_talk(const struct packet *p)
{
	if (p->protocol != IPPROTO_ICMPV6 || p->is_later_fragment)
		return false;
	return (p->icmp_type >= 130 && p->icmp_type <= 137) || p->icmp_type == 143;
}

static __always_inline bool is_icmp_error(const struct packet *p)
{
	return p->protocol == IPPROTO_ICMPV6 && !p->is_later_fragment && p->icmp_type < 128;
}

static __always_inline bool is_multicast(const struct halves *address)
{
	return (address->upper_be & bpf_cpu_to_be64(0xff00000000000000ULL)) ==
	       bpf_cpu_to_be64(0xff00000000000000ULL);
}

static __always_inline bool is_link_local(const struct halves *address)
{
	return (address->upper_be & bpf_cpu_to_be64(0xffc0000000000000ULL)) ==
	       bpf_cpu_to_be64(0xfe80000000000000ULL);
}

static __always_inline bool is_unspecified(const struct halves *address)
{
	return address->upper_be == 0 && address->lower_be == 0;
}

#endif
