"""The summary of a sweep: its tables, its best trial, and what it leaves in files."""
