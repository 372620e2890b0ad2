"""The calibration of classifiers: scores, and temperature scaling."""
