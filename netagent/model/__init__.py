"""The nouns of netagent as plain values: no I/O, no clock, imports nothing else of ours."""
