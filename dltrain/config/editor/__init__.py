"""JSON Schemas for editors, made from the same signatures as the checks."""
