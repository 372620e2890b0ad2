"""Reading files: folders, encodings, numbers, dates, archives, downloads."""
