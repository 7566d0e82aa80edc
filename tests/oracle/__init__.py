"""The oracle: what docs/architecture.md says happens to a packet, in plain Python.

Written from that document alone and independent of bpf/, so that the two can be held against each
other. `oracle.programs.decide` is the entry; the numbers in comments are the document's.
"""
