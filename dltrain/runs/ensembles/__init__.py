"""Evaluations of several finished runs as one ensemble, and of runs after a calibration."""
