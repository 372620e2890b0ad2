"""Turning results into pictures and lines of text."""
