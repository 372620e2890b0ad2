"""Texts: data sets."""
