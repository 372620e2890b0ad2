"""Names the folder that keeps what was computed about a data set, for the next time."""

CACHE = ".dltrain"  # in the data folder
