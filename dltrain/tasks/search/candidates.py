"""The candidates of a search over the paths of a supernet, and their Pareto front."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from dltrain import rng
from dltrain.types import PathNetwork, Plot, Text

Path = tuple[int, ...]
Method = Literal["evolution", "random"]
Points = Mapping[int, tuple[int, float]]  # parameters and accuracy, by number
MUTATION = 0.1  # probability of a change of each place; Guo et al. 2019, section 4
MAX_DRAWS = 1000  # of a path that is small enough and new


class Population:
    """The paths of every generation, each a function of the seed and of the scores before it.

    Candidate n is number n % `size` of generation n // `size`. The first generation is drawn
    uniformly. With "evolution" half of a later one are mutations of parents, and half crossings of
    two; parents are the better half of all paths before, those on the Pareto front first.

    Raises:
        ValueError: No path is small enough.
    """

    def __init__(
        self,
        network: PathNetwork,
        method: Method,
        size: int,
        generations: int,
        max_parameters: int | None,
    ) -> None:
        self.options = tuple(network.options())
        self.parameters_of = network.parameters_of
        self.method = method
        self.size = size
        self.generations = generations
        self.max_parameters = max_parameters
        self.known: dict[tuple[Any, ...], list[Path]] = {}
        self._require_small_path()

    def _require_small_path(self) -> None:
        """Raise ValueError unless random paths include one that is small enough."""
        generator = random.Random(0)
        if not any(self.is_small(self.drawn(generator)) for _ in range(MAX_DRAWS)):
            raise ValueError(
                f"none of {MAX_DRAWS:,} paths has at most task.max_parameters="
                f"{self.max_parameters} parameters; set a higher limit, or smaller model.channels"
            )

    def path(self, number: int, seed: int, scores: Sequence[float]) -> Path:
        """Return candidate `number`; `scores` are those of all candidates, by number."""
        generation, place = divmod(number, self.size)
        return self.generation(generation, seed, scores)[place]

    def generation(self, number: int, seed: int, scores: Sequence[float]) -> list[Path]:
        """Return the paths of a generation; `scores` are those of all candidates, by number."""
        earlier = tuple(scores[: number * self.size])
        key = (number, seed, earlier)
        if key not in self.known:
            before: list[Path] = []
            for generation in range(number):
                before += self.generation(generation, seed, scores)
            self.known[key] = self._made(number, seed, before, earlier)
        return self.known[key]

    def _made(
        self, number: int, seed: int, before: list[Path], scores: Sequence[float]
    ) -> list[Path]:
        """Return the paths of a new generation, which differ from those `before` if possible."""
        parents = self._parents(before, scores)
        used = set(before)
        paths = []
        for place in range(self.size):
            generator = random.Random(rng.number(seed, number, place))
            path = self._new_path(generator, parents, used, place)
            used.add(path)
            paths.append(path)
        return paths

    def _parents(self, before: Sequence[Path], scores: Sequence[float]) -> list[Path]:
        """Return the better half of the paths; none for a random search."""
        if self.method == "random" or not before:
            return []
        points = {i: (self.parameters_of(path), scores[i]) for i, path in enumerate(before)}
        on_front = front(points)
        others = sorted(points.keys() - set(on_front), key=lambda i: (-points[i][1], i))
        count = max(2, self.size // 2)
        return [before[i] for i in [*reversed(on_front), *others][:count]]

    def _new_path(
        self, generator: random.Random, parents: Sequence[Path], used: set[Path], place: int
    ) -> Path:
        """Return a path that is small enough, and new if that can be had."""
        small: Path | None = None
        for _ in range(MAX_DRAWS):
            path = self._child(generator, parents, is_mutation=place % 2 == 0)
            if not self.is_small(path):
                continue
            small = path
            if path not in used:
                return path
        assert small is not None, "no path is small enough"
        return small

    def _child(self, generator: random.Random, parents: Sequence[Path], is_mutation: bool) -> Path:
        """Return a path made of parents, or a random one if there are none."""
        if not parents:
            return self.drawn(generator)
        first = generator.choice(parents)
        if is_mutation:
            return self._mutated(generator, first)
        second = generator.choice(parents)
        return tuple(generator.choice(pair) for pair in zip(first, second, strict=True))

    def drawn(self, generator: random.Random) -> Path:
        """Return a path that is drawn uniformly."""
        return tuple(generator.randrange(count) for count in self.options)

    def _mutated(self, generator: random.Random, path: Path) -> Path:
        """Return a path that differs from another at some places."""
        fresh = self.drawn(generator)
        changed = [generator.random() < MUTATION for _ in path]
        changed[generator.randrange(len(path))] = True
        triples = zip(changed, fresh, path, strict=True)
        return tuple(new if changes else old for changes, new, old in triples)

    def is_small(self, path: Path) -> bool:
        """Tell if a network is small enough."""
        return self.max_parameters is None or self.parameters_of(path) <= self.max_parameters


class CandidatePaths:
    """The batches of the search: each is the number of a candidate and its path.

    An epoch is a generation. Its paths follow from the scores of those before, which are on the
    device: they are read between two epochs.
    """

    batch_size = 1
    whole_batches = True

    def __init__(self, population: Population, seed: int, scores: Tensor) -> None:
        self.population = population
        self.samples = population.size
        self.seed = seed
        self.scores = scores  # (N,)

    def __len__(self) -> int:
        return self.population.size

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[int, Path]]:
        """Yield the candidates of generation `number` from position `start` on."""
        size = self.population.size
        scores = read_scores(self.scores) if number else []
        paths = self.population.generation(number, self.seed, scores)
        for place in range(start, size):
            yield number * size + place, paths[place]

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: the scores are buffers of the task."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing; see `state_dict`."""


def read_scores(scores: Tensor) -> list[float]:
    """Return the scores of all candidates; this waits for the device, between two epochs."""
    values: list[float] = scores.tolist()
    return values


def front(points: Points) -> list[int]:
    """Return the numbers of the points on the Pareto front, the smallest network first."""
    numbers = []
    best = -math.inf
    for number in sorted(points, key=lambda i: (points[i][0], -points[i][1], i)):
        if points[number][1] > best:
            best = points[number][1]
            numbers.append(number)
    return numbers


def smallest_of_best(points: Points, tolerance: float) -> int:
    """Return the number of the smallest network within `tolerance` of the best accuracy."""
    least = max(accuracy for _, accuracy in points.values()) - tolerance
    return next(number for number in front(points) if points[number][1] >= least)


def front_plot(points: Points) -> Plot:
    """Return a diagram of all paths and of the front."""
    numbers = front(points)
    lines = {
        "paths": ([p for p, _ in points.values()], [a for _, a in points.values()]),
        "Pareto front": ([points[i][0] for i in numbers], [points[i][1] for i in numbers]),
    }
    return Plot(
        lines,
        "accuracy in the supernet against parameters",
        "parameters",
        "validation accuracy",
        scattered=("paths",),
        log_x=True,
    )


def front_text(points: Points, descriptions: Mapping[int, str]) -> Text:
    """Return a table of the paths on the front."""
    lines = ["| path | parameters | accuracy in the supernet | stages |", "|---|---|---|---|"]
    for number in front(points):
        parameters, accuracy = points[number]
        lines.append(f"| {number} | {parameters:,} | {accuracy:.4f} | {descriptions[number]} |")
    return Text("\n".join(lines))
