"""Learning rate schedules: a factor for each update."""
