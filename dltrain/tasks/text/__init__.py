"""Texts: tasks."""
