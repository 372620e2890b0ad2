"""The splits of a table: at random, with groups, or in the order of time."""
