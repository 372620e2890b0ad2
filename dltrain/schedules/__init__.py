"""Learning-rate schedules: factors over the updates, one file each."""
