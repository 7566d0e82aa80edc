/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What policies are asked about a flow, and what they said. */
#ifndef NETAGENT_JUDGEMENT_H
#define NETAGENT_JUDGEMENT_H

#include "parse.h"

/* No network has this number. */
#define NETWORK_OUTSIDE 0xffffffff
#define NETWORK_HOSTS 0

/* One end of a flow. Here: this host speaks for it. */
struct end {
	struct halves address; /* The upper half counts outside only. */
	__u32 identity; /* 0 outside: each policy has its own. */
	__u32 network;
	bool is_here;
};

/* The first packet of a flow. */
struct question {
	struct end source;
	struct end destination;
	__u32 generation; /* Under which it is asked. */
	__u16 port; /* ICMPv6: type << 8 | code. */
	__u8 protocol;
};

/* What one policy said. network 0: nobody was asked. *_index: in rule_counters, 0 for none. */
struct answer {
	__u32 network;
	__u32 version;
	__u32 rule;
	__u32 audit_rule;
	__u32 rule_index;
	__u32 audit_index;
	__u8 direction;
	bool is_allowed;
	bool is_audited;
};

/* What both ends said. */
struct judgement {
	struct answer egress;
	struct answer ingress;
	bool is_evaluated; /* Else the answers are those that the flow remembered: indices only. */
	bool is_remembered; /* The flow is new. */
};

#endif
