"""Object detection: data sets."""
