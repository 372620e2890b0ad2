"""Suggestions for words that cannot be read or do not exist."""
