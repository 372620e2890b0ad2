"""Tasks that make networks smaller and faster."""
