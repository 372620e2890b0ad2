"""Optimizers: thin factories with named, ranged arguments over torch.optim, one file each."""
