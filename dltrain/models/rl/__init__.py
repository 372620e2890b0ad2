"""Models of reinforcement learning: action values."""
