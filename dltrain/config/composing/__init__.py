"""Composes files and overrides into one configuration."""
