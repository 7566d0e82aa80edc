/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What this host is: set in .rodata by the agent before it loads a program, constant after. */
#ifndef NETAGENT_CONFIG_H
#define NETAGENT_CONFIG_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct config {
	__be64 prefix_be; /* P: the upper half of every stable address. */
	__be64 locator_be; /* This host's locator. */
	__be64 host_id_be; /* The id of this host's own stable address. */
	__u32 mesh_ifindex; /* The WireGuard interface. */
	__u32 mtu_bytes; /* Of the WireGuard interface, from the IPv6 header on. */
};

/* In a section of its own: the compiler puts constants of its own into .rodata. */
SEC(".rodata.config") const volatile struct config config = {};

#endif
