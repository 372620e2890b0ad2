"""What a run's manifest says of its data is a file's content: it may be anything."""

from __future__ import annotations

from dltrain.errors import InputError


def unsound(why: object) -> InputError:
    """The error for a description that cannot be that of a data set."""
    return InputError(f"what the run's manifest.json says of its data cannot be used: {why}")
