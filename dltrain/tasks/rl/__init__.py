"""Reinforcement learning tasks."""
