"""Texts: models."""
