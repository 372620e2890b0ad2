"""Where what was found out about a data set is kept for the next time."""

CACHE = ".dltrain"  # the folder in the data root
