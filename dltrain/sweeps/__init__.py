"""Sweeps: the names of jobs, and the table and curves of their results."""
