"""The state machine of a move: pure, no I/O, no clock."""
