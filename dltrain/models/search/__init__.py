"""Networks whose architecture is searched."""
