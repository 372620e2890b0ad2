"""Reinforcement learning: tasks."""
