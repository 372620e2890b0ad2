"""Data sets: where samples come from, and how batches are made of them."""
