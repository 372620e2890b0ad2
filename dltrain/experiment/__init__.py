"""Objects from a checked configuration: the parts of an experiment, and the session that trains it."""
