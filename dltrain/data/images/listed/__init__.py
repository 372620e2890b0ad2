"""Images in files that a folder or a table lists."""
