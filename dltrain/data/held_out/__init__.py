"""The rules that hold out samples for validation and testing, and keep groups together."""
