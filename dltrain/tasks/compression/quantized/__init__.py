"""Layers with weights of few bits, as plain tensors, and the kernels that they call."""
