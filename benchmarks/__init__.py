"""Benchmarks: ratios within one process, never timed asserts."""
