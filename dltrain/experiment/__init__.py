"""The objects that a checked configuration describes, and the session that trains them."""
