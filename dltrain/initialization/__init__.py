"""How weights begin, one scheme a file."""
