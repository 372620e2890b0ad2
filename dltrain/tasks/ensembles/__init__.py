"""Ensembles of classifiers: their members, and how predictions are combined."""
