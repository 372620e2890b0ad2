"""Reinforcement learning: models."""
