"""Steps down at milestones."""

from __future__ import annotations

from typing import Annotated

from dltrain.schedules.schedule import Schedule
from dltrain.types import Gt, Lt, NonNegative, Probability


class Step(Schedule):
    """Multiplies the rate by `gamma` at each of the `milestones`, shares of the updates after the warm-up.

    As shares they hold for any number of epochs. The defaults divide it by 10 after half and three quarters of the run,
    as He et al. 2016 (section 4.2) do after 32k and 48k of 64k updates.
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75),
        gamma: Probability = 0.1,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.milestones, self.gamma = milestones, gamma

    def curve(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)
