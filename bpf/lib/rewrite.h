/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Exchanges the upper halves of both addresses, and puts Ethernet headers on.
 *
 * Locators and prefix have the same one's-complement sum, so no transport checksum changes, whether
 * it is complete, partial or still to be made for each segment.
 */
#ifndef NETAGENT_REWRITE_H
#define NETAGENT_REWRITE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The same on every host. */
static const __u8 gateway_mac[ETH_ALEN] = { 0x02, 0xea, 0x61, 0x00, 0x00, 0x01 };

static __always_inline int write_uppers(struct __sk_buff *skb, __u32 l3, __be64 source_be,
					__be64 destination_be)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + l3;

	if ((void *)(ip + 1) > data_end)
		return -1;
	__builtin_memcpy(&ip->saddr, &source_be, sizeof(source_be));
	__builtin_memcpy(&ip->daddr, &destination_be, sizeof(destination_be));
	return 0;
}

/* Writes the Ethernet header of a packet from the gateway to `mac`. */
static __always_inline int write_ethernet(struct __sk_buff *skb, const __u8 *mac)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > data_end)
		return -1;
	__builtin_memcpy(ethernet->h_dest, mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, gateway_mac, ETH_ALEN);
	ethernet->h_proto = bpf_htons(ETH_P_IPV6);
	return 0;
}

#endif
