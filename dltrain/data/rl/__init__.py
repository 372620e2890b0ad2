"""Environments as data sets, for reinforcement learning."""
