"""Tasks on images without labels, and what other tasks on images share."""
