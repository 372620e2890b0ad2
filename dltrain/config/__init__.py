"""Composing a configuration and finding every problem in it."""
