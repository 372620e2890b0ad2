"""The parts of a pruning: what is removed, by how much in each round, and what holds it."""
