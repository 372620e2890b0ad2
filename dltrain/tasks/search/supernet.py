"""Architecture search by weight sharing: a supernet, a search over its paths, the chosen network.

Guo et al. 2019, "Single Path One-Shot Neural Architecture Search with Uniform Sampling"; Bender et
al. 2018, "Understanding and Simplifying One-Shot Architecture Search".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage
from dltrain.losses import training_mean
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.search.candidates import (
    CandidatePaths,
    Method,
    Path,
    Population,
    front_plot,
    front_text,
    read_scores,
    smallest_of_best,
)
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, Ge, NetworkFactory, PathNetwork, PositiveInt

log = logging.getLogger("dltrain")
STREAM = "paths"
NOT_SCORED = -1.0


class SupernetSearch(Classification):
    """Trains a supernet, searches its paths, and trains the network of the chosen path alone.

    * "supernet": each step trains a path drawn uniformly (Guo et al. 2019, equation 7). Evaluations
      are of the widest path.
    * "search": each step scores a path on validation data, with the statistics of batch norm
      computed for it. A generation is an epoch.
    * "train": the smallest network within `tolerance` of the best accuracy is trained alone, and
      tested. Evaluations are those of a classification, with the Pareto front of the search.

    Args:
        data: The data set; it needs validation samples.
        model: A network with paths, such as model=supernet.
        loss: The loss.
        optim: Makes the optimizers; task.optimizers.supernet has settings for the supernet's.
        epochs: Epochs of the chosen network.
        supernet_epochs: Epochs of the supernet.
        method: "evolution" makes paths from the best ones, "random" draws all of them.
        population: Paths of a generation.
        generations: The number of generations.
        calibration_batches: Training batches for the statistics of batch norm of a path.
        scored_batches: Validation batches that score a path; None for all.
        max_parameters: The number of parameters that the network may have; None for any.
        tolerance: The accuracy that may be lost for a smaller network.
        inherit: Whether the chosen network begins with the weights of the supernet, or with fresh
            ones.
        network_factory: Draws the fresh weights.
        watch: The watched metric.
        mode: Its better direction; None for the declared one.
        top_k: As in a classification.
        metrics: As in a classification.

    Raises:
        ValueError: The model has no paths, or no network is small enough.
    """

    divisible = False
    trains_in_processes = False
    networks = ("supernet",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        supernet_epochs: PositiveInt = 5,
        method: Method = "evolution",
        population: PositiveInt = 16,
        generations: PositiveInt = 4,
        calibration_batches: PositiveInt = 8,
        scored_batches: PositiveInt | None = None,
        max_parameters: PositiveInt | None = None,
        tolerance: Annotated[float, Ge(0)] = 0.0,
        inherit: bool = True,
        network_factory: NetworkFactory | None = None,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode, top_k, metrics)
        if not isinstance(model, PathNetwork):
            raise ValueError("this model has no paths to search: model=supernet has")
        self.model: Any = model
        self.named_optim: Callable[..., Optim] = optim
        self.supernet_epochs = supernet_epochs
        self.population = Population(model, method, population, generations, max_parameters)
        self.calibration_batches = calibration_batches
        self.scored_batches = scored_batches
        self.tolerance = tolerance
        self.fresh_networks = None if inherit else network_factory
        self.is_chosen = False  # with the figures of the search
        self.front: dict[int, tuple[int, float]] = {}
        self.descriptions: dict[int, str] = {}
        self.moved: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.scores: Tensor
        self.search_seed = 0
        self.path: Tensor
        scores = torch.full((population * generations,), NOT_SCORED)
        self.register_buffer("scores", scores)  # (N,), by candidate
        self.register_buffer("path", torch.full((len(model.options()),), -1))  # the chosen one
        self.register_load_state_dict_pre_hook(keep_saved_path)

    def stages(self) -> Iterator[Stage]:
        """Yield the stages "supernet", "search" and "train"."""
        rng.python_stream(STREAM)
        yield self.supernet_stage()
        self.search_seed = rng.python_stream(STREAM).getrandbits(62)  # a resume draws the same
        yield self.search_stage()
        self.choose()
        yield from super().stages()

    def supernet_stage(self) -> Stage:
        """Return the stage that trains the supernet, a path in each step."""
        train = self.data.train
        optim = self.named_optim(self.model, self.supernet_epochs * len(train), "supernet")
        options = self.model.options()

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            inputs, targets = batch
            stream = rng.python_stream(STREAM)
            path = [stream.randrange(count) for count in options]
            value, weight = training_mean(self.loss, self.model(inputs, path), targets)
            optim.update(value, weight=weight)
            return {"loss": Mean(value.detach(), weight)}

        return Stage(
            name="supernet",
            epochs=self.supernet_epochs,
            batches=train,
            step=step,
            held_out=validation_split(self.data),
            evaluate=self.evaluate_supernet,
            optims=(optim,),
            watch=self.watch,
            mode=self.supervised().mode,
        )

    def evaluate_supernet(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of the widest path, with its own statistics of batch norm."""
        self.compute_statistics(None)
        return super().evaluate(batches)

    def search_stage(self) -> Stage:
        """Return the stage that scores the paths, an epoch for each generation."""
        return Stage(
            name="search",
            epochs=self.population.generations,
            batches=CandidatePaths(self.population, self.search_seed, self.scores),
            step=self.score,
        )

    @torch.no_grad()
    def score(self, candidate: tuple[int, Path]) -> Metrics:
        """Score one path: its number and the path itself."""
        number, path = candidate
        self.compute_statistics(path)
        hits = []
        for inputs, targets in self.held_out_batches():
            predicted = self.model(inputs, path).argmax(dim=1)
            hits.append((predicted == targets).float())
        self.model.train()
        accuracy = torch.cat(hits).mean()
        self.scores[number] = accuracy
        return {"accuracy": Mean(accuracy, 1.0)}

    def compute_statistics(self, path: Path | None) -> None:
        """Compute the statistics of batch norm of a path; the model is in evaluation mode then."""
        batches = self.moved_batches("calibration", self.data.train, self.calibration_batches)
        self.model.compute_statistics((inputs for inputs, _ in batches), path)
        self.model.eval()

    def held_out_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return the batches that score a path."""
        return self.moved_batches("validation", self.data.val, self.scored_batches)

    def moved_batches(
        self, name: str, split: Any, count: int | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the first batches of a split on the device; they are read once."""
        if name not in self.moved:
            device = self.scores.device
            self.moved[name] = [
                (inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
                for inputs, targets in islice(split.epoch(0), count)
            ]
        return self.moved[name]

    def choose(self) -> None:
        """Become the network of the chosen path."""
        self.moved.clear()
        points = self.scored()
        number = smallest_of_best(points, self.tolerance)
        path = self.population.path(number, self.search_seed, read_scores(self.scores))
        self.front = points
        self.descriptions = self.described(points)
        self.path.copy_(torch.tensor(path), non_blocking=True)
        count = self.model.parameters_of(path)
        log.info(f"path {number}: {count:,} parameters: {self.model.describe(path)}")
        self.model.keep(path)
        if self.fresh_networks is not None:
            self.fresh_networks.initialize_model(self.model)
        self.is_chosen = True

    def scored(self) -> dict[int, tuple[int, float]]:
        """Return the parameters and the accuracy of each path that is scored, by its number.

        If none is, as in a run that was limited to other stages, the first one counts.
        """
        accuracies = read_scores(self.scores)
        numbers = [i for i, accuracy in enumerate(accuracies) if accuracy >= 0]
        if not numbers:
            path = self.population.path(0, self.search_seed, accuracies)
            return {0: (self.model.parameters_of(path), NOT_SCORED)}
        points = {}
        for number in numbers:
            path = self.population.path(number, self.search_seed, accuracies)
            points[number] = (self.model.parameters_of(path), accuracies[number])
        return points

    def described(self, points: dict[int, tuple[int, float]]) -> dict[int, str]:
        """Return the paths in words, by number."""
        accuracies = read_scores(self.scores)
        seed = self.search_seed
        return {
            number: self.model.describe(self.population.path(number, seed, accuracies))
            for number in points
        }

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of the chosen network, its size, and the front of the search."""
        scores = super().evaluate(batches)
        if not self.is_chosen or not scores:
            return scores
        return {
            **scores,
            "parameters": float(sum(p.numel() for p in self.model.parameters())),
            "front": front_plot(self.front),
            "paths": front_text(self.front, self.descriptions),
        }

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {**super().directions(), "parameters": "min"}


def keep_saved_path(task: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Become the network of the path that a state was saved with, if it was chosen then."""
    assert isinstance(task, SupernetSearch)
    saved = state.get(f"{prefix}path")
    is_kept = not bool(task.model.options())
    if saved is None or is_kept or saved.device.type == "meta":
        return
    path = saved.tolist()
    if min(path) >= 0:
        task.model.keep(path)
