"""Regularization: choices that compose; each declares the settings that it fills."""
