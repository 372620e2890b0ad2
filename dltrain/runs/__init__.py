"""Run folders: making, finding, opening and resuming a run, and its checkpoints."""
