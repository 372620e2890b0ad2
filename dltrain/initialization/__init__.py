"""Initialization schemes of weights."""
