/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where an id is, and where else it may be while it moves. */
#ifndef NETAGENT_LOCATE_H
#define NETAGENT_LOCATE_H

#include "config.h"
#include "maps.h"

/* Returns the id's location when it is at that host, else NULL. */
static __always_inline struct location *find_at(__be64 id_be, __be64 locator_be)
{
	struct location *l = bpf_map_lookup_elem(&location, &id_be);

	return l && l->locator_be == locator_be ? l : NULL;
}

/* Returns the transition of an id that is located at `l` (NULL: nowhere), or NULL when it is not on
 * the move: the entry is overdue, or of an earlier move than the last that has committed.
 */
static __always_inline struct transition *find_transition(__be64 id_be, const struct location *l)
{
	struct transition *t = bpf_map_lookup_elem(&transition, &id_be);

	if (!t || t->deadline_ns <= bpf_ktime_get_boot_ns() || (l && t->epoch < l->epoch))
		return NULL;
	return t;
}

/* Whether a packet that WireGuard took from the host of `sender_be` may carry this source, which is
 * located at `source`, and this destination.
 */
static __always_inline bool may_speak(__be64 sender_be, const struct location *source,
				      __be64 source_be, __be64 destination_be)
{
	struct transition *t;

	if (source->locator_be == sender_be)
		return true;
	t = find_transition(source_be, source);
	if (t && (t->source_be == sender_be || t->destination_be == sender_be))
		return true;
	t = find_transition(destination_be, bpf_map_lookup_elem(&location, &destination_be));
	return t && t->source_be == sender_be && t->destination_be == config.locator_be;
}

#endif
