"""What to type instead of what cannot be read or does not exist."""
