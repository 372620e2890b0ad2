"""The search of device=fast: measure candidates on real steps, and keep the fastest equal one.

The search is greedy: threads and memory format first, then precision, then compilation. Candidates
are timed in turn (A B C A B C), so that a machine that slows down does so for all of them. A
candidate counts only if its first losses equal those of the reference within a tolerance.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol

from dltrain.acceleration.candidates import Candidate, CandidateSpace
from dltrain.errors import Interrupted

log = logging.getLogger("dltrain")
BLOCK_SECONDS = 0.03  # shorter times depend on what else the machine does
BUDGET_SECONDS = 5.0  # of all timed blocks, without compilation
MIN_BUDGET_SECONDS = 0.5
BUDGET_FRACTION = 0.1  # of the planned training; a short one is not worth the whole budget
RACES = 3  # threads and format, precision, the finalists
MIN_ROUNDS = 2
MAX_ROUNDS = 15
HOPELESS = 1.5  # times the fastest: such a candidate is not timed again
TIE = 0.97  # of the time of a simpler candidate; a smaller gain does not count
COMPILE_SECONDS = 30.0  # assumed before anything is compiled
COMPILE_WORTH = 10  # times as long a training: only then compilation is tried


NetworkKey = tuple[str, bool | None, str]


class Network(Protocol):
    """A network that is trained apart from the run, to measure it."""

    def first_losses(self, threads: int) -> list[float]:
        """Return the losses of the first steps, from the same weights for every network."""

    def seconds(self, steps: int, threads: int) -> float:
        """Train so many steps, and return how long they take."""


class Bench(Protocol):
    """Builds networks for measurements."""

    def build(self, candidate: Candidate) -> Network:
        """Return the network of a candidate; an exception if it cannot be trained so."""

    def release(self) -> None:
        """Free what networks that are not referred to any more have left."""


@dataclass(frozen=True)
class Measured:
    """The figures of one candidate.

    Attributes:
        candidate: The settings.
        ms: The median time of a step, in milliseconds; infinite where it was not timed.
        difference: The largest difference of a loss from the reference's, divided by the largest
            loss.
        compile_seconds: The time of the compilation.
        problem: The reason why it is not a choice; "" if it is one.
    """

    candidate: Candidate
    ms: float = math.inf
    difference: float = 0.0
    compile_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Measurements:
    """All that a search has measured.

    `finalists` were timed against each other in the end: the reference is the first, the fastest
    without compilation the second if it is another one, and compiled ones follow. `others` lost
    earlier. `compile_tried` is False if the training was too short for a compilation.
    """

    finalists: tuple[Measured, ...]
    others: tuple[Measured, ...] = ()
    compile_tried: bool = True

    @property
    def reference(self) -> Measured:
        """The candidate with the settings of device=auto."""
        return self.finalists[0]

    def choice(self, steps: float) -> Measured:
        """Return the finalist that is fastest for a training of so many steps.

        A compilation has to save more time than it takes.
        """
        best = self.reference
        for other in self.finalists[1:]:
            saved = steps * (best.ms - other.ms) / 1000
            if other.ms < TIE * best.ms and saved > other.compile_seconds:
                best = other
        return best

    def is_enough(self, steps: float) -> bool:
        """Tell if nothing is left to measure for a training of so many steps."""
        fastest = min(one.ms for one in self.finalists)
        return self.compile_tried or not is_worth_compiling(steps * fastest / 1000)


def is_worth_compiling(training_seconds: float) -> bool:
    """Tell if a training is long enough to try compilation."""
    return training_seconds >= COMPILE_WORTH * COMPILE_SECONDS


def loss_difference(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Return the largest difference of two series, divided by the largest reference value."""
    scale = max((abs(value) for value in reference), default=0.0)
    pairs = zip(losses, reference, strict=True)
    differences = [abs(value - expected) for value, expected in pairs]
    if not all(map(math.isfinite, differences)):
        return math.inf
    return max(differences, default=0.0) / (scale or 1.0)


@dataclass
class Search:
    """A search in `space`, for a training of `steps` steps and at most `max_seconds`."""

    bench: Bench
    space: CandidateSpace
    steps: float
    max_seconds: float = math.inf
    clock: Callable[[], float] = time.perf_counter
    networks: dict[NetworkKey, Network] = field(default_factory=dict)
    tries: dict[NetworkKey, Measured] = field(default_factory=dict)
    results: dict[Candidate, Measured] = field(default_factory=dict)
    reference_losses: list[float] = field(default_factory=list)

    def run(self) -> Measurements:
        """Measure, and return all measurements; an exception if the reference cannot train."""
        reference = self.space.reference
        budget = self.begin() / RACES
        best = self.race([reference, *self.thread_and_format_candidates()], budget)
        best = self.race([best, *self.precision_candidates(best)], budget)
        finalists = list(dict.fromkeys([reference, best]))
        training_seconds = self.planned_seconds(self.results[best].ms / 1000)
        compiled = self.compiled_candidates(best)
        compile_tried = not compiled or is_worth_compiling(training_seconds)
        if compile_tried:
            finalists += compiled
        self.race(finalists, budget)
        ranked = [self.results[one] for one in finalists if not self.results[one].problem]
        others = [one for one in self.results.values() if one not in ranked]
        return Measurements(tuple(ranked), tuple(others), compile_tried)

    def begin(self) -> float:
        """Train the first steps of the reference; return the seconds for all timed blocks."""
        reference = self.space.reference
        network = self.bench.build(reference)
        self.reference_losses = network.first_losses(reference.threads)
        self.networks[reference.network] = network
        self.tries[reference.network] = Measured(reference)
        planned = self.planned_seconds(network.seconds(1, reference.threads))
        return max(MIN_BUDGET_SECONDS, min(BUDGET_SECONDS, BUDGET_FRACTION * planned))

    def planned_seconds(self, step_seconds: float) -> float:
        """Return how long the training will take."""
        return min(self.max_seconds, self.steps * step_seconds)

    def thread_and_format_candidates(self) -> list[Candidate]:
        """Return candidates that differ from the reference in threads and format."""
        reference = self.space.reference
        counts = [reference.threads, *self.near_thread_counts()]
        return [
            replace(reference, threads=count, channels_last=channels_last)
            for count in counts
            for channels_last in self.space.formats
        ]

    def near_thread_counts(self) -> list[int]:
        """Return the numbers of threads worth timing.

        From the reference's number outward: where one is hopeless, those beyond it are.
        """
        reference = self.space.reference
        network = self.networks[reference.network]
        network.seconds(1, reference.threads)  # warms up
        usual = network.seconds(1, reference.threads)
        fewer = sorted((t for t in self.space.threads if t < reference.threads), reverse=True)
        more = sorted(t for t in self.space.threads if t > reference.threads)
        near = []
        for direction in (fewer, more):
            for count in direction:
                network.seconds(1, count)  # starts the threads
                if network.seconds(1, count) > 2 * HOPELESS * usual:
                    break
                near.append(count)
        return near

    def precision_candidates(self, best: Candidate) -> list[Candidate]:
        """Return candidates of other precisions, in each memory format."""
        return [
            replace(best, precision=precision, channels_last=channels_last)
            for precision in self.space.precisions
            if precision != best.precision
            for channels_last in self.space.formats
        ]

    def compiled_candidates(self, best: Candidate) -> list[Candidate]:
        """Return the compiled candidates."""
        return [
            replace(best, compile=mode) for mode in self.space.compilations if mode != best.compile
        ]

    def race(self, candidates: Iterable[Candidate], seconds: float) -> Candidate:
        """Time candidates in turn for so many seconds, and return the fastest.

        The first ones are the simplest: a later one has to be faster by more than a tie.
        """
        running = [one for one in dict.fromkeys(candidates) if self.is_equal(one)]
        block_steps = {one: self.steps_of_block(one) for one in running}
        times: dict[Candidate, list[float]] = {one: [] for one in running}
        spent = 0.0
        for count in range(MAX_ROUNDS):
            if count >= MIN_ROUNDS and spent >= seconds:
                break
            for one in running:
                block = self.networks[one.network].seconds(block_steps[one], one.threads)
                spent += block
                times[one].append(block / block_steps[one])
            fastest = min(median(times[one]) for one in running)
            running = [one for one in running if median(times[one]) <= HOPELESS * fastest]
        best = next(iter(times))
        for one, measured in times.items():
            self.results[one] = replace(self.results[one], ms=1000 * median(measured))
            if self.results[one].ms < TIE * self.results[best].ms:
                best = one
        self.forget_all_but({self.space.reference.network, best.network})
        return best

    def steps_of_block(self, candidate: Candidate) -> int:
        """Return how many steps make a block that is long enough to be timed."""
        network = self.networks[candidate.network]
        network.seconds(1, candidate.threads)  # warms up
        return math.ceil(BLOCK_SECONDS / max(network.seconds(1, candidate.threads), 1e-6))

    def is_equal(self, candidate: Candidate) -> bool:
        """Tell if a candidate trains, with the losses of the reference."""
        if candidate.network not in self.tries:
            self.tries[candidate.network] = self.tried(candidate)
        if candidate not in self.results:
            self.results[candidate] = replace(self.tries[candidate.network], candidate=candidate)
        return candidate.network in self.networks

    def tried(self, candidate: Candidate) -> Measured:
        """Build the network of a candidate and compare its first losses."""
        start = self.clock()
        try:
            network = self.bench.build(candidate)
            losses = network.first_losses(candidate.threads)
            network.seconds(1, candidate.threads)
        except Interrupted:
            raise
        except Exception as e:  # whatever it is, the candidate cannot be used
            log.debug(f"device=fast: {candidate} is left out: {type(e).__name__}: {e}")
            return Measured(candidate, problem=f"{type(e).__name__}: {e}")
        measured = Measured(candidate, difference=loss_difference(losses, self.reference_losses))
        if candidate.compile != self.space.reference.compile:
            measured = replace(measured, compile_seconds=self.clock() - start)
        tolerance = max(candidate.tolerance, self.space.reference.tolerance)
        if measured.difference > tolerance:
            limit = percent(tolerance)
            problem = f"losses differ by {percent(measured.difference)} (tolerance {limit})"
            return replace(measured, problem=problem)
        self.networks[candidate.network] = network
        return measured

    def forget_all_but(self, kept: set[NetworkKey]) -> None:
        """Free the networks that are not needed any more."""
        for key in [key for key in self.networks if key not in kept]:
            del self.networks[key]
        self.bench.release()


def percent(fraction: float) -> str:
    """Return a fraction in percent."""
    if not math.isfinite(fraction):
        return "more than can be counted"
    return f"{100 * fraction:.2g} %"
