"""Shows where the time of a run goes: `debug=profile`."""
