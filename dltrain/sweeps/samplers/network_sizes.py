"""The sizes of the networks of trials, known before they are trained.

A network is built on torch's meta device, without memory for its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from dltrain import rng
from dltrain.config.command_groups import of_run
from dltrain.config.compose import compose
from dltrain.config.overrides import Problem
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment
from dltrain.report.costs import network_parameters
from dltrain.sweeps.samplers.outlook import description_of


class NetworkSizes:
    """Counts the parameters of the networks that overrides describe.

    The shape of the data is that of the first configuration whose data has to be read for it.
    """

    def __init__(self) -> None:
        self.description: dict[str, Any] | None = None
        self.is_described = False
        self.counts: dict[tuple[str, ...], int] = {}

    def parameters(self, overrides: Sequence[str]) -> int:
        """Return the number of parameters of the network of a run with these overrides.

        Raises:
            ConfigError: The network cannot be built.
        """
        key = tuple(overrides)
        if key not in self.counts:
            self.counts[key] = self._counted(overrides)
        return self.counts[key]

    def _counted(self, overrides: Sequence[str]) -> int:
        config = of_run(compose(list(overrides))).config
        on_cpu = {**config, "device": compose(["device=cpu"]).config["device"]}
        if not self.is_described:
            self.description = description_of(on_cpu)
            self.is_described = True
        with rng.preserved(), unchanged_threads():
            experiment = Experiment.on_fake_data(on_cpu, self.description)
            _ = experiment.selected_data  # has values, unlike the weights
            with torch.device("meta"):
                return network_parameters(experiment.model)

    def is_above(self, overrides: Sequence[str], max_parameters: int) -> bool:
        """Tell if a network can be built and has more parameters than that."""
        try:
            return self.parameters(overrides) > max_parameters
        except ConfigError:
            return False

    def problem(self, overrides: Sequence[str], max_parameters: int | None = None) -> str:
        """Return why a network cannot be trained: its shape, or its size; "" if it can."""
        try:
            count = self.parameters(overrides)
        except ConfigError as e:
            return "; ".join(map(problem_text, e.problems))
        if max_parameters is not None and count > max_parameters:
            return (
                f"the network has {count:,} parameters, more than "
                f"sweep.max_parameters={max_parameters:,}"
            )
        return ""


@contextmanager
def unchanged_threads() -> Iterator[None]:
    """Restore torch's number of threads after the block: runs of this process may train."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def problem_text(problem: Problem) -> str:
    """Return a problem of a configuration as one line."""
    return ": ".join(filter(None, problem))
