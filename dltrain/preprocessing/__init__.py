"""Preprocessing and augmentation of whole batches, one step in each file."""
