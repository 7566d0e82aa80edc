/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the gateway says itself: its neighbour advertisement, and Packet Too Big (RFC 4861, 4443).
 *
 * Both turn the packet around in place; the caller sends it back to where it came from.
 */
#ifndef NETAGENT_ANSWER_H
#define NETAGENT_ANSWER_H

#include <stddef.h>

#include "parse.h"
#include "rewrite.h"

#define GATEWAY_UPPER_BE bpf_cpu_to_be64(0xfe80000000000000ULL)
#define GATEWAY_LOWER_BE bpf_cpu_to_be64(1)
#define SOLICITED_UPPER_BE bpf_cpu_to_be64(0xff02000000000000ULL)
#define SOLICITED_LOWER_BE bpf_cpu_to_be64(0x00000001ff000001ULL)

#define ICMP_PACKET_TOO_BIG 2
#define NEIGHBOUR_SOLICITATION 135
#define NEIGHBOUR_ADVERTISEMENT 136
#define SOLICITATION_BYTES 24

#define MIN_MTU_BYTES 1280 /* An error never exceeds it (RFC 4443, 2.4 c). */
#define ERROR_HEADER_BYTES 8
#define QUOTE_BYTES (MIN_MTU_BYTES - IPV6_HEADER_BYTES - ERROR_HEADER_BYTES)
#define TCP_CHECKSUM_OFFSET 16
#define UDP_CHECKSUM_OFFSET 6
#define CSUM_CHUNK_BYTES 512 /* Most that bpf_csum_diff takes before kernel 6.13. */

/* The addresses and lengths that an ICMPv6 checksum covers (RFC 8200, 8.1). */
struct pseudo_header {
	struct halves source;
	struct halves destination;
	__be32 length_be;
	__be32 next_be;
};

static __always_inline __sum16 csum_finish(__s64 sum)
{
	sum = (sum & 0xffff) + ((__u64)sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __s64 csum_pseudo(const struct halves *to, __u32 bytes)
{
	struct pseudo_header pseudo = {
		.source = { GATEWAY_UPPER_BE, GATEWAY_LOWER_BE },
		.destination = *to,
		.length_be = bpf_htonl(bytes),
		.next_be = bpf_htonl(IPPROTO_ICMPV6),
	};

	return bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
}

static __always_inline void fill_ipv6(struct ipv6hdr *ip, const struct halves *to, __u16 payload)
{
	const struct halves gateway = { GATEWAY_UPPER_BE, GATEWAY_LOWER_BE };

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = 255;
	__builtin_memcpy(&ip->saddr, &gateway, sizeof(gateway));
	__builtin_memcpy(&ip->daddr, to, sizeof(*to));
}

/* Whether a guest asks for the gateway's MAC. */
static __always_inline bool asks_for_gateway(struct __sk_buff *skb, const struct packet *p)
{
	struct halves target;

	if (p->protocol != IPPROTO_ICMPV6 || p->is_extended ||
	    p->icmp_type != NEIGHBOUR_SOLICITATION || p->icmp_code != 0 || p->hop_limit != 255)
		return false;
	if (!(p->destination.upper_be == GATEWAY_UPPER_BE &&
	      p->destination.lower_be == GATEWAY_LOWER_BE) &&
	    !(p->destination.upper_be == SOLICITED_UPPER_BE &&
	      p->destination.lower_be == SOLICITED_LOWER_BE))
		return false;
	if (is_unspecified(&p->source) || is_multicast(&p->source))
		return false;
	if (p->transport + SOLICITATION_BYTES > p->end ||
	    bpf_skb_load_bytes(skb, p->transport + 8, &target, sizeof(target)))
		return false;
	return target.upper_be == GATEWAY_UPPER_BE && target.lower_be == GATEWAY_LOWER_BE;
}

struct advertisement {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 flags_be;
	struct halves target;
	__u8 option_type; /* Target link-layer address. */
	__u8 option_units; /* Of 8 bytes. */
	__u8 option_mac[ETH_ALEN];
};

/* Returns 0 when the packet has become the gateway's answer. */
static __always_inline int answer_solicitation(struct __sk_buff *skb, const struct packet *p)
{
	struct advertisement a = {
		.type = NEIGHBOUR_ADVERTISEMENT,
		.flags_be = bpf_htonl(0xe0000000), /* Router, solicited, override. */
		.target = { GATEWAY_UPPER_BE, GATEWAY_LOWER_BE },
		.option_type = 2,
		.option_units = 1,
	};
	__u8 asker[ETH_ALEN];
	struct ipv6hdr ip;

	__builtin_memcpy(a.option_mac, gateway_mac, ETH_ALEN);
	a.checksum = csum_finish(bpf_csum_diff(NULL, 0, (__be32 *)&a, sizeof(a),
					       csum_pseudo(&p->source, sizeof(a))));
	fill_ipv6(&ip, &p->source, sizeof(a));
	if (bpf_skb_load_bytes(skb, ETH_ALEN, asker, sizeof(asker)) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ip) + sizeof(a), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(ip), &a, sizeof(a), 0))
		return -1;
	return write_ethernet(skb, asker);
}

/* The checksum that the kernel, or the machine's network card, has still to complete: it holds the sum
 * of the pseudo header so far. One complete checksum in 65,536 looks the same.
 */
static __always_inline bool is_partial(struct __sk_buff *skb, const struct packet *p, __u16 *so_far)
{
	struct pseudo_header pseudo = {
		.source = p->source,
		.destination = p->destination,
		.length_be = bpf_htonl(p->end - p->transport),
		.next_be = bpf_htonl(p->protocol),
	};
	__u32 at = p->transport;
	__u16 found;

	if (p->is_extended)
		return false;
	if (p->protocol == IPPROTO_TCP)
		at += TCP_CHECKSUM_OFFSET;
	else if (p->protocol == IPPROTO_UDP)
		at += UDP_CHECKSUM_OFFSET;
	else
		return false;
	if (bpf_skb_load_bytes(skb, at, &found, sizeof(found)))
		return false;
	*so_far = ~csum_finish(bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0));
	return found == *so_far;
}

struct too_big {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 mtu_be;
};

/* Returns 0 when the packet has become the gateway's Packet Too Big about itself.
 *
 * A partial checksum within the quote may be completed on the way to the machine, after the message
 * has been summed up. From the transport header on, the quote then adds up to the complement of what
 * the field holds so far: that is what the sum takes, whoever completes it, or nobody.
 */
static __always_inline int answer_too_big(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	const __u32 message = ERROR_HEADER_BYTES + QUOTE_BYTES;
	struct too_big t = { .type = ICMP_PACKET_TOO_BIG, .mtu_be = bpf_htonl(mtu) };
	void *data, *data_end, *body;
	__u8 asker[ETH_ALEN];
	__u32 completed = 0;
	__sum16 checksum;
	__u16 so_far;
	bool partial;
	__s64 sum;

	partial = is_partial(skb, p, &so_far);
	if (partial)
		completed = (__u16)~so_far;
	fill_ipv6(&t.ip, &p->source, message);
	/* Cutting the tail first also ends the packet being one of many segments. */
	if (bpf_skb_load_bytes(skb, ETH_ALEN, asker, sizeof(asker)) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + QUOTE_BYTES, 0) ||
	    bpf_skb_change_head(skb, sizeof(t), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &t, sizeof(t), 0) ||
	    bpf_skb_pull_data(skb, ETH_HLEN + IPV6_HEADER_BYTES + message) ||
	    write_ethernet(skb, asker))
		return -1;
	data = (void *)(long)skb->data;
	data_end = (void *)(long)skb->data_end;
	body = data + ETH_HLEN + IPV6_HEADER_BYTES;
	if (body + message > data_end)
		return -1;
	sum = csum_pseudo(&p->source, message);
	if (partial) {
		sum = bpf_csum_diff(NULL, 0, body, ERROR_HEADER_BYTES + IPV6_HEADER_BYTES, sum);
		sum = bpf_csum_diff(NULL, 0, &completed, sizeof(completed), sum);
	} else {
		sum = bpf_csum_diff(NULL, 0, body, CSUM_CHUNK_BYTES, sum);
		sum = bpf_csum_diff(NULL, 0, body + CSUM_CHUNK_BYTES, CSUM_CHUNK_BYTES, sum);
		sum = bpf_csum_diff(NULL, 0, body + 2 * CSUM_CHUNK_BYTES,
				    message - 2 * CSUM_CHUNK_BYTES, sum);
	}
	checksum = csum_finish(sum);
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct too_big, checksum), &checksum,
				   sizeof(checksum), 0);
}

#endif
