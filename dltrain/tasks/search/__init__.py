"""Architecture search as a task."""
