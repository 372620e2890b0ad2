"""Benchmarks: ratios measured within one process; none of them is a timed assertion."""
