"""Images: tasks."""
