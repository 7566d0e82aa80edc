"""Desired against actual: what to write, in which order, and when to try again. Pure."""
