"""Optimizers with annotated arguments: factories over torch.optim, and optimizers that it lacks.

L-BFGS is not among them: its line search evaluates the loss several times per step, and
`Optim.update` gets it once.
"""
