"""Callbacks: they observe a run, one file each."""
