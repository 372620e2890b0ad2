"""Data lint: faults of a data set that training would not notice."""
