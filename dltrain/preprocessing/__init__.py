"""Preprocessing and augmentation of whole batches, one step a file."""
