"""Samplers: which values the trials of a sweep have."""
