"""Images: models."""
