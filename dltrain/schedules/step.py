"""Reduction of the learning rate at milestones."""

from __future__ import annotations

from typing import Annotated

from dltrain.schedules.schedule import Schedule
from dltrain.types import Gt, Lt, NonNegative, Probability


class Step(Schedule):
    """Multiplies the learning rate by `gamma` at each of the `milestones`.

    Milestones are fractions of the updates after the warm-up, so they fit any number of epochs. The
    defaults divide the learning rate by 10 after half and three quarters of the run, as He et al.
    2016 (section 4.2) do after 32k and 48k of 64k updates.
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75),
        gamma: Probability = 0.1,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.milestones = milestones
        self.gamma = gamma

    def curve(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)
