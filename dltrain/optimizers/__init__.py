"""Optimizers with named, ranged arguments, one file each: thin factories over torch.optim, and what it has not.

L-BFGS is not among them: its line search evaluates the loss several times a step, and `Optim.update` is given it once.
"""
