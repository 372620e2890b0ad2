"""Checks a configuration against signatures, and its choices against each other."""
