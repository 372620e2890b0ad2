"""A constant learning rate."""

from __future__ import annotations

from dltrain.schedules.schedule import Schedule


class Constant(Schedule):
    """Keeps the factor 1, after a warm-up if one is set."""

    needs_end = False

    def curve(self, progress: float) -> float:
        return 1.0
