"""Object detection: models."""
