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
#define NETAGENT_ABI_VERSION 2

/* Why a packet was passed or dropped. Numbers are never reused.
 * 1 to 15 pass, 16 and up drop. Change together: abi.py, docs/architecture.md, tests/oracle.
 * Retired: 26, 27 (isolation of networks and hosts, before there were policies).
 */
enum verdict {
	VERDICT_NONE = 0,
	PASS_TO_LOCAL_MACHINE = 1,
	PASS_TO_MESH = 2,
	PASS_FROM_MESH = 3,
	PASS_FORWARDED = 4,
	PASS_TO_HOST = 5,
	PASS_NEIGHBOUR_ANSWERED = 6,
	PASS_TO_OUTSIDE = 7,

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
	DROP_FRAGMENT = 28,
	DROP_TOO_BIG = 29,
	DROP_NOT_ENCODED = 30,
	DROP_SOURCE_NOT_AT_SENDER = 31,
	DROP_DESTINATION_NOT_HERE = 32,
	DROP_NO_ENDPOINT = 33,
	DROP_HOP_LIMIT = 34,
	DROP_KERNEL = 35,
	DROP_DENIED_EGRESS = 36,
	DROP_DENIED_INGRESS = 37,
	DROP_NO_POLICY = 38,
	VERDICT_COUNT = 39,
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

enum flow_flags {
	/* The end that is `high` in the key sent the first packet. */
	FLOW_FROM_HIGH = 1,
	FLOW_ANSWERED = 2,
	/* Which policies this host has asked: as the host of the flow's source, of its destination. */
	FLOW_ASKED_EGRESS = 4,
	FLOW_ASKED_INGRESS = 8,
	/* TCP: this end has sent FIN; either has sent RST. */
	FLOW_FIN_LOW = 16,
	FLOW_FIN_HIGH = 32,
	FLOW_RESET = 64,
};

/* conntrack: one key for both directions of a flow. Between two ids, `low` is the one that is less as
 * a number (or, when they are one, whose port is). With an outside peer, `low` is the machine,
 * `high` the lower half and `outside` the upper half of the peer's address.
 * Ports: ICMPv6 echo has its identifier on the side that asks, 0 on the other; protocols without
 * ports have 0.
 */
struct flow {
	__be64 low_be;
	__be64 high_be;
	__be64 outside_be;
	__be16 low_port_be;
	__be16 high_port_be;
	__u8 protocol;
	__u8 is_outside;
	__u8 reserved[2];
};

/* seen_ns: CLOCK_MONOTONIC (coarse) of the last packet in either direction.
 * generation: that of the policies when they were last asked.
 * *_rule, *_audit: index of the rule (that allowed, that audit would follow) in rule_counters; 0: none.
 */
struct flow_state {
	__u64 seen_ns;
	__u32 generation;
	__u32 flags;
	__u32 egress_rule;
	__u32 egress_audit;
	__u32 ingress_rule;
	__u32 ingress_audit;
};

/* fragments: which packets' first fragments were allowed. outside_be as in struct flow, or 0. */
struct fragment {
	__be64 source_be;
	__be64 destination_be;
	__be64 outside_be;
	__be32 identification_be;
	__u32 is_outside;
};

struct fragment_state {
	__u64 seen_ns;
	__u32 generation;
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 reserved;
};

/* Which way a packet goes, seen from the network whose policy is asked. */
enum direction {
	DIRECTION_INSIDE = 0,
	DIRECTION_EGRESS = 1,
	DIRECTION_INGRESS = 2,
	DIRECTION_COUNT = 3,
};

/* policy_state: entry 0. generation: raised after any change of policies or identities. */
struct policy_state {
	__u32 generation;
	__u32 reserved;
};

/* policy_network: network number -> what is in force: from generation `turn` on slot, version and
 * defaults, before it the old ones. So the generation's rise puts a revision in force, and has every
 * flow asked again, in one write.
 * slot: which copy of the network's pairs and prefixes. defaults: class by direction.
 */
struct policy_network {
	__u32 turn;
	__u32 reserved;
	__u32 old_slot;
	__u32 old_version;
	__u64 old_defaults[3];
	__u32 slot;
	__u32 version;
	__u64 defaults[3];
};

/* policy_pair: -> class, 8 bytes. */
struct policy_pair {
	__u32 network;
	__u32 source; /* Identities. */
	__u32 destination;
	__u8 direction;
	__u8 slot;
	__u16 reserved;
};

/* policy_prefix (longest prefix): -> identity of outside addresses, 4 bytes.
 * prefix_bits: 64 (network and slot match whole) and the bits of the address.
 */
struct policy_prefix {
	__u32 prefix_bits;
	__u32 network;
	__u32 slot;
	__u8 address[16];
};

/* policy_class: -> where the class's intervals of one protocol (0: all others) are. */
struct policy_class {
	__u64 class_id;
	__u32 protocol;
	__u32 reserved;
};

struct interval_range {
	__u32 first; /* Index in policy_interval. */
	__u32 count; /* At least 1. */
};

/* policy_interval: one range of ports, up to the next interval's first. ICMPv6: type << 8 | code. */
struct policy_interval {
	__u16 first_port;
	__u8 is_allowed;
	__u8 is_audited; /* audit_rule would have said the opposite. */
	__u32 rule; /* 0: the default. */
	__u32 audit_rule;
};

/* rule_index: -> index of a network's rule (0: default) in rule_counters, 4 bytes, from 1. */
struct rule {
	__u32 network;
	__u32 number;
};

/* counters: verdict -> per-CPU. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* misdirected: locator_be of a host -> packets that it sent here for ids that are elsewhere. */
struct misdirected {
	__u64 forwarded;
	__u64 dropped;
};

/* rule_counters: index * 2 (+ 1: asked as the receiver's policy) -> per-CPU.
 * audited: what a rule in audit mode would have decided otherwise.
 */
struct rule_counter {
	struct counter allowed;
	struct counter denied;
	struct counter audited;
};

enum event_kind {
	EVENT_DROP = 1,
	EVENT_AUDIT = 2,
	EVENT_FLOW = 3, /* A flow was allowed and remembered. */
};

enum program {
	PROGRAM_FROM_MACHINE = 1,
	PROGRAM_FROM_MESH = 2,
	PROGRAM_FROM_HOST = 3,
	PROGRAM_TO_MACHINE = 4,
};

/* events: addresses are as they stood in the packet, so on the mesh the uppers are locators.
 * direction, network, version, rule, audit_rule: of the policy that spoke; network 0: none did.
 */
struct event {
	__u64 time_ns; /* CLOCK_BOOTTIME. */
	__be64 source_upper_be;
	__be64 source_be;
	__be64 destination_upper_be;
	__be64 destination_be;
	__u32 bytes;
	__u32 network;
	__u32 version;
	__u32 rule;
	__u32 audit_rule;
	__be16 source_port_be;
	__be16 destination_port_be;
	__u8 kind;
	__u8 verdict;
	__u8 program;
	__u8 direction;
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 is_audited;
};

/* event_bucket: per CPU. suppressed: for want of tokens; lost: for want of room in the buffer. */
struct event_bucket {
	__u64 refilled_ns; /* CLOCK_MONOTONIC (coarse). */
	__u64 tokens;
	__u64 sent;
	__u64 suppressed;
	__u64 lost;
};

#endif
