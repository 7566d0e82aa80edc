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

/* Flows that hosts began. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct flow);
	__type(value, struct flow_state);
} conntrack SEC(".maps");

/* Packets and bytes by verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

#endif
