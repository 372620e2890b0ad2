"""Callbacks: what is made of a run while it goes, one file each."""
