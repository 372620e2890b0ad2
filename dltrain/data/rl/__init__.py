"""Reinforcement learning: data sets."""
