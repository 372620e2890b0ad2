"""dltrain: deep-learning experiments from YAML, all on one engine."""

__version__ = "0.1.0"
