// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The maps alone, so that the agent can make or adopt them before it knows any program's constants. */
#include "lib/maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
