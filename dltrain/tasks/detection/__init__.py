"""Tasks on images with objects."""
