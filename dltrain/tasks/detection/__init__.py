"""Object detection: tasks."""
