"""Tasks: a task defines the stages that train networks; one file each, in families."""
