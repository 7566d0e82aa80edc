/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Every map, pinned by name and shared by all programs; docs/architecture.md says who writes what. */
#ifndef NETAGENT_MAPS_H
#define NETAGENT_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Where each id is: the one map that a move changes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be64);
	__type(value, struct location);
} location SEC(".maps");

/* Ids on the move, permitted at two places. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be64);
	__type(value, struct transition);
} transition SEC(".maps");

/* Interfaces of the machines of this host, and of the host's own stack. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be64);
	__type(value, struct endpoint);
} endpoint SEC(".maps");

/* Flows that were allowed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct flow);
	__type(value, struct flow_state);
} conntrack SEC(".maps");

/* Packets of which the first fragment was allowed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct fragment);
	__type(value, struct fragment_state);
} fragments SEC(".maps");

/* The generation of all policies together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct policy_state);
} policy_state SEC(".maps");

/* What is in force, by network. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct policy_network);
} policy_network SEC(".maps");

/* Pairs of identities to classes, two copies of each network's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 524288);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct policy_pair);
	__type(value, __u64);
} policy_pair SEC(".maps");

/* Outside addresses to identities, two copies of each network's. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct policy_prefix);
	__type(value, __u32);
} policy_prefix SEC(".maps");

/* Classes and protocols to intervals. A class never changes under its name;
 * there is room for those of two revisions.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct policy_class);
	__type(value, struct interval_range);
} policy_class SEC(".maps");

/* Intervals of all classes, those of one class and protocol side by side. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2097152);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct policy_interval);
} policy_interval SEC(".maps");

/* Rules to the places of their counters. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct rule);
	__type(value, __u32);
} rule_index SEC(".maps");

/* Packets and bytes by rule, and by who asked it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 32768);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct rule_counter);
} rule_counters SEC(".maps");

/* Drops, audits and new flows, for whoever listens. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1048576); /* Bytes. */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* How many events each processor may still send. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct event_bucket);
} event_bucket SEC(".maps");

/* Whose location tables were behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __be64);
	__type(value, struct misdirected);
} misdirected SEC(".maps");

/* Packets and bytes by verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

#endif
