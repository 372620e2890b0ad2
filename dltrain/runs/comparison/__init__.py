"""The comparison of runs: what differs in their configurations, metrics and surroundings."""
