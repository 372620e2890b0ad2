"""The same learning rate throughout."""

from __future__ import annotations

from dltrain.schedules.schedule import Schedule


class Constant(Schedule):
    """Factor 1, after a warm-up if one is set."""

    needs_end = False

    def curve(self, progress: float) -> float:
        return 1.0
