"""The networks of finished runs, as a task uses them: teachers, or members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainedNetwork:
    """The network of a finished run, in evaluation mode and without gradients.

    It is on the device, with averaged weights if its run averages them. It is no part of the task
    that uses it: whoever needs its weights in a checkpoint makes it a module of the task.

    Attributes:
        name: The name of the run's folder.
        model: Maps inputs (B, ...) of the current run to logits (B, K) of its classes. Where the
            finished run standardizes images in another way, it maps them to that first.
        network: The network itself, whose layers have the names that the finished run has for them.
        class_names: The classes, which are those of the current run in the same order.
        is_fake: True for a copy of the current run's own network, which is used instead of a run
            where training on fake data is tried (debug=smoke, `dltrain check`).
    """

    name: str
    model: nn.Module
    network: nn.Module
    class_names: Sequence[str]
    is_fake: bool = False


class FinishedRuns(Protocol):
    """The finished runs that the settings of a task name; see `Task.run_keys`."""

    def network(self, key: str, name: str | int) -> TrainedNetwork:
        """Return the network of the run `name`, which the setting `key` names.

        It is opened once. A new run has opened and checked all of them before its folder is made;
        a run that is evaluated or predicts opens one when it is asked for.

        Raises:
            InputError: The run is not there, it has no checkpoint, or it does not fit the data of
                the current run: other classes, another order of them, or inputs that it cannot
                read.
        """
