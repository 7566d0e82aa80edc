"""Figures: ratios against the alternatives in one run, interleaved, on one machine."""
