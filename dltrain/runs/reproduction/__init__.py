"""Training a run again, and comparing what both runs logged."""
