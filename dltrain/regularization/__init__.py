"""Regularization: choices that compose; each names the setting that it fills."""
