"""Layers with weights of few bits, and what converts a trained network to them."""
