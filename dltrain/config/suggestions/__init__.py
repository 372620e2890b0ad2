"""Suggestions for words, keys and options that do not exist, and quoting of texts."""
