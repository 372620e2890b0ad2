"""The search of device=fast with networks whose times and losses are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest

from dltrain.acceleration.candidates import Candidate, CandidateSpace, thread_counts
from dltrain.acceleration.tuning import (
    BUDGET_SECONDS,
    COMPILE_SECONDS,
    COMPILE_WORTH,
    Measured,
    Measurements,
    Search,
    loss_difference,
)
from dltrain.acceleration.tuning_text import choice_line

AUTO = Candidate("fp32", True, "off", 1)
SPACE = CandidateSpace(AUTO, ("fp32", "bf16"), (True, False), ("off", "model"), (1, 2))
LONG = 10**7  # steps: compilation is tried
SHORT = 1000


@dataclass
class FakeMachine:
    """A bench whose networks take the seconds a step that `times` says; the clock is its own."""

    times: dict[Candidate, float]
    losses: dict[str, list[float]] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    compile_seconds: float = 0.0
    now: float = 0.0
    built: list[Candidate] = field(default_factory=list)

    def build(self, candidate: Candidate) -> FakeNetwork:
        self.built.append(candidate)
        if candidate.precision in self.broken or candidate.compile in self.broken:
            raise RuntimeError("no kernel")
        if candidate.compile != "off":
            self.now += self.compile_seconds
        return FakeNetwork(self, candidate)

    def release(self) -> None:
        pass

    def clock(self) -> float:
        return self.now


@dataclass
class FakeNetwork:
    machine: FakeMachine
    candidate: Candidate

    def first_losses(self, threads: int) -> list[float]:
        return self.machine.losses.get(self.candidate.precision, [2.0, 1.0])

    def seconds(self, steps: int, threads: int) -> float:
        step = self.machine.times.get(replace(self.candidate, threads=threads), 0.010)
        self.machine.now += steps * step
        return steps * step


def searched(
    machine: FakeMachine, steps: float = SHORT, space: CandidateSpace = SPACE
) -> Measurements:
    return Search(machine, space, steps, clock=machine.clock).run()


def chosen(machine: FakeMachine, steps: float = SHORT, space: CandidateSpace = SPACE) -> Candidate:
    return searched(machine, steps, space).choice(steps).candidate


def test_the_fastest_candidate_wins():
    two_threads = replace(AUTO, threads=2)
    bf16 = replace(two_threads, precision="bf16", channels_last=False)
    machine = FakeMachine({two_threads: 0.008, bf16: 0.005})
    measurements = searched(machine)
    assert measurements.choice(SHORT).candidate == bf16
    assert measurements.reference.candidate == AUTO
    line = choice_line(measurements.choice(SHORT), measurements, is_cached=False)
    assert line.startswith(
        "device=fast: bf16 instead of fp32, contiguous, 2 threads: 2.00 x device=auto (5 ms a step)"
    )
    assert "losses differ by 0 % (tolerance 2 %)" in line
    assert "compilation is tried only for trainings above 5 min" in line
    assert "measured by an earlier run" in choice_line(measurements.reference, measurements, True)


def test_a_candidate_with_other_losses_loses_and_is_named():
    fast = replace(AUTO, precision="bf16")
    machine = FakeMachine({fast: 0.001}, losses={"bf16": [2.0, 1.1]})
    measurements = searched(machine)
    assert measurements.choice(SHORT).candidate == AUTO
    line = choice_line(measurements.reference, measurements, is_cached=False)
    assert "not bf16: losses differ by 5 % (tolerance 2 %)" in line
    machine.losses = {"bf16": [2.0, 1.03]}  # 1.5 % of the largest loss
    assert chosen(machine) == fast


def test_fp32_candidates_have_to_be_closer():
    machine = FakeMachine({})
    space = replace(SPACE, precisions=("fp32",))
    contiguous = replace(AUTO, channels_last=False)
    machine.times[contiguous] = 0.001
    assert chosen(machine, space=space) == contiguous
    search = Search(machine, space, SHORT, clock=machine.clock)
    search.begin()
    search.reference_losses = [2.0, 1.01]
    assert not search.is_equal(contiguous)
    assert "tolerance 0.1 %" in search.results[contiguous].problem


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_no_choice(value: float):
    fast = replace(AUTO, precision="bf16")
    assert chosen(FakeMachine({fast: 0.001}, losses={"bf16": [2.0, value]})) == AUTO


@pytest.mark.parametrize(("seconds", "wins"), [(0.0098, False), (0.0096, True)])
def test_a_tie_keeps_the_simpler_setting(seconds: float, wins: bool):
    bf16 = replace(AUTO, precision="bf16")
    assert chosen(FakeMachine({bf16: seconds})) == (bf16 if wins else AUTO)


def test_a_candidate_that_fails_is_left_out(caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG", "dltrain")
    machine = FakeMachine({replace(AUTO, precision="bf16"): 0.001}, broken=("bf16",))
    measurements = searched(machine)
    assert measurements.choice(SHORT).candidate == AUTO
    assert any("RuntimeError: no kernel" in one.problem for one in measurements.others)
    assert "is left out: RuntimeError: no kernel" in caplog.text


def test_a_fixed_setting_is_no_candidate():
    bf16 = replace(AUTO, precision="bf16")
    machine = FakeMachine({bf16: 0.001})
    assert chosen(machine, space=replace(SPACE, precisions=("fp32",))) == AUTO
    assert all(one.precision == "fp32" for one in machine.built)


def test_compilation_is_tried_only_for_long_trainings():
    compiled = replace(AUTO, compile="model")
    step = 0.010
    shortest = COMPILE_WORTH * COMPILE_SECONDS / step
    machine = FakeMachine({compiled: 0.005}, compile_seconds=20.0)
    short = searched(machine, shortest - 1)
    assert not short.compile_tried
    assert compiled not in machine.built
    assert not short.is_enough(shortest + 1)
    long = searched(machine, shortest + 1)
    assert long.choice(shortest).candidate == compiled
    assert long.is_enough(shortest)


def test_a_compilation_has_to_save_more_time_than_it_takes():
    compiled = Measured(replace(AUTO, compile="model"), ms=5.0, compile_seconds=20.0)
    measurements = Measurements((Measured(AUTO, ms=10.0), compiled))
    assert measurements.choice(3999) == measurements.reference  # 5 ms of each step are saved
    assert measurements.choice(4001) == compiled


def test_compilation_that_the_user_fixed_is_not_called_untried():
    measurements = searched(FakeMachine({}), SHORT, replace(SPACE, compilations=("off",)))
    assert measurements.compile_tried


def test_candidates_are_timed_in_turn():
    order: list[int] = []

    class Recorded(FakeNetwork):
        def seconds(self, steps: int, threads: int) -> float:
            if steps > 1:
                order.append(threads)
            return super().seconds(steps, threads)

    machine = FakeMachine({})
    machine.build = lambda candidate: Recorded(machine, candidate)  # type: ignore[method-assign]
    space = replace(SPACE, precisions=("fp32",), formats=(True,), compilations=("off",))
    searched(machine, space=space)
    assert order[:6] == [1, 2, 1, 2, 1, 2]


def test_thread_counts_beyond_a_hopeless_one_are_not_tried():
    times = {replace(AUTO, threads=16): 0.010, replace(AUTO, threads=8): 0.012}
    times |= {replace(AUTO, threads=count): 1.0 for count in (1, 2, 4)}
    machine = FakeMachine(times)
    space = replace(SPACE, reference=replace(AUTO, threads=16), threads=(1, 2, 4, 8, 16))
    search = Search(machine, space, SHORT, clock=machine.clock)
    search.begin()
    assert search.near_thread_counts() == [8]


def test_the_budget_bounds_the_measurement():
    machine = FakeMachine({})
    searched(machine, steps=10**5)
    assert machine.now < 2 * BUDGET_SECONDS
    machine = FakeMachine({})
    searched(machine, steps=10)  # a training of a tenth of a second
    assert machine.now < 4


def test_helpers_of_the_search():
    assert thread_counts(1) == (1,)
    assert thread_counts(6) == (1, 2, 4, 6)
    assert thread_counts(8) == (1, 2, 4, 8)
    assert loss_difference([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert loss_difference([0.0], [0.0]) == 0
    assert str(Candidate("bf16", None, "step", 0)) == "bf16, whole step compiled"
    assert Candidate("fp32", None, "off", 0).settings() == {"precision": "fp32", "compile": "off"}
