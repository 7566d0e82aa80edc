/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What kernel and user space agree on: keys, values, verdicts.
 *
 * netagent/dataplane/abi.py mirrors this file, docs/architecture.md explains it, and a test compares
 * the three. `_be` is network byte order, as it stands in the packet; all else is host order.
 */
#ifndef NETAGENT_ABI_H
#define NETAGENT_ABI_H

#include <linux/types.h>

/* Raised when the layout of any pinned map changes; part of the pin path. */
#define NETAGENT_ABI_VERSION 1

/* Why a packet was passed or dropped. Numbers are never reused.
 * 1 to 15 pass, 16 and up drop. Change together: abi.py, docs/architecture.md, tests/oracle.
 */
enum verdict {
	VERDICT_NONE = 0,
	PASS_TO_LOCAL_MACHINE = 1,
	PASS_TO_MESH = 2,
	PASS_FROM_MESH = 3,
	PASS_FORWARDED = 4,
	PASS_TO_HOST = 5,
	PASS_NEIGHBOUR_ANSWERED = 6,

	DROP_NOT_IPV6 = 16,
	DROP_MALFORMED = 17,
	DROP_SPOOFED_MAC = 18,
	DROP_SPOOFED_ADDRESS = 19,
	DROP_NOT_LOCATED_HERE = 20,
	DROP_LINK_LOCAL = 21,
	DROP_OUTSIDE = 22,
	DROP_EXTENSION_HEADER = 23,
	DROP_NEIGHBOUR_DISCOVERY = 24,
	DROP_UNKNOWN_DESTINATION = 25,
	DROP_ISOLATED = 26,
	DROP_HOST_CLOSED = 27,
	DROP_FRAGMENT = 28,
	DROP_TOO_BIG = 29,
	DROP_NOT_ENCODED = 30,
	DROP_SOURCE_NOT_AT_SENDER = 31,
	DROP_DESTINATION_NOT_HERE = 32,
	DROP_NO_ENDPOINT = 33,
	DROP_HOP_LIMIT = 34,
	DROP_KERNEL = 35,
	VERDICT_COUNT = 36,
};

/* location: id_be -> where it is and as what policy sees it. */
struct location {
	__be64 locator_be;
	__u32 identity;
	__u32 reserved;
	__u64 epoch;
};

/* transition: id_be -> the two places of an id on the move.
 * deadline_ns: CLOCK_BOOTTIME; past it the entry counts as absent, whoever forgot to remove it.
 */
struct transition {
	__be64 source_be;
	__be64 destination_be;
	__u64 deadline_ns;
	__u64 epoch;
};

enum endpoint_flags {
	/* The interface is a veth whose other end is in another namespace: skip one queue. */
	ENDPOINT_PEER = 1,
};

/* endpoint: id_be -> the interface of a machine (or of the host's own stack). */
struct endpoint {
	__u32 ifindex;
	__u32 flags;
	__u8 mac[6]; /* At a multiple of 4, so that it compares as two words. */
	__u8 reserved[2];
};

/* conntrack: a flow that a host began, as its first packet was: source is the host. */
struct flow {
	__be64 source_be;
	__be64 destination_be;
	__be16 source_port_be;
	__be16 destination_port_be;
	__u8 protocol;
	__u8 reserved[3];
};

struct flow_state {
	__u64 seen_ns; /* CLOCK_BOOTTIME of the last packet in either direction. */
};

/* counters: verdict -> per-CPU. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

#endif
