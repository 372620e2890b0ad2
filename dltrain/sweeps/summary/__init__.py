"""The summary of a sweep: its tables, its best trial, what its settings matter, and its files."""
