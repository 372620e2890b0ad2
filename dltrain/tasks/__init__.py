"""Tasks: learning systems as stages over handed networks, one file each."""
