"""Images: data sets."""
