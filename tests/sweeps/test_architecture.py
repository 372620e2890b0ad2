"""The search of architectures: its space, impossible networks, its pruning and its front."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

from dltrain.config.compose import compose
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment
from dltrain.sweeps.samplers.architecture import ArchitectureSampler
from dltrain.sweeps.samplers.front_pruning import FrontJudge
from dltrain.sweeps.samplers.network_sizes import NetworkSizes
from dltrain.sweeps.samplers.pruning import PruningRule
from dltrain.sweeps.summary.front import front_lines, front_plot
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.trial import Row, Trial
from dltrain.weights.freezing import trainable_count

Command = Callable[..., Outcome]
TINY = ("dataset=digits", "trainer.epochs=1", "callbacks=quiet", "device.threads=1")
OBJECTIVES = (Criterion("val/accuracy", "max"), Criterion("parameters", "min"))
SPACES = compose(["sweep=architecture"]).config["sweep"]["spaces"]


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


def prepared(*typed: str, **settings: Any) -> ArchitectureSampler:
    """Return a sampler that has chosen the space of a command."""
    settings = {"spaces": SPACES, "metric": [None, "parameters"], **settings}
    sampler = ArchitectureSampler(**settings)
    sampler.prepare(compose([word for word in typed if "," not in word]), typed)
    return sampler


@pytest.mark.parametrize(
    "words",
    [
        ["model=cnn", "model.block=separable", "model.depth=2"],
        ["model=mlp", "model.depth=3", "model.width=0.5"],
        ["model=googlenet"],  # whose auxiliary heads do not count
    ],
)
def test_the_size_of_a_network_is_known_before_it_is_built(words: list[str]) -> None:
    words = ["dataset=digits", *words]
    model = Experiment.on_fake_data(compose(words).config).model
    heads = getattr(model, "auxiliary_heads", tuple)()
    expected = trainable_count(model) - sum(map(trainable_count, heads))
    assert NetworkSizes().parameters(words) == expected


def test_a_network_that_cannot_be_built_has_a_problem_that_names_what_to_change() -> None:
    sizes = NetworkSizes()
    assert "set a lower model.depth" in sizes.problem(["dataset=digits", "model.depth=4"])
    assert sizes.problem(["dataset=digits", "model.depth=3"]) == ""
    problem = sizes.problem(["dataset=digits", "model.depth=3"], max_parameters=1000)
    assert "more than sweep.max_parameters=1,000" in problem


def test_the_depth_of_the_space_is_what_the_images_allow() -> None:
    assert prepared("dataset=digits").space["model.depth"] == "int(interval(1,3))"
    assert prepared("dataset=mnist").space["model.depth"] == "int(interval(1,4))"
    assert prepared("dataset=digits", "model=mlp").space["model.depth"] == "int(interval(1,5))"


def test_the_command_and_the_space_of_the_user_come_before_the_space_of_the_model() -> None:
    sampler = prepared("dataset=digits", "model.block=plain", space={"model.norm": ["none"]})
    assert "model.block" not in sampler.space
    assert sampler.space["model.norm"] == ["none"]
    assert sampler.space["model.pooling"] == ["max", "average"]
    assert prepared("dataset=digits", "model=cnn,mlp").space == {}


class Court:
    """A judge of trials whose networks have sizes of their own."""

    def __init__(self, mode: str = "max", **settings: Any) -> None:
        rule = PruningRule("median", **{"trials": 2, "evaluations": 1, "factor": 3} | settings)
        self.sizes: list[int] = []
        criterion = Criterion("val/score", mode)
        self.judge = FrontJudge(rule, criterion, 9, lambda trial: self.sizes[trial.number])

    def train(self, size: int, *values: float | None) -> str:
        """Report the values of a new trial; return the reason for which it is pruned, or ""."""
        trial = Trial(len(self.sizes), [])
        self.sizes.append(size)
        reasons = (self.judge.report(trial, step, v) for step, v in enumerate(values, start=1))
        return next(filter(None, reasons), "")


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_a_trial_is_compared_with_networks_that_are_no_larger(mode: str, sign: int) -> None:
    court = Court(mode)
    assert court.train(100, sign * 0.5) == ""
    assert court.train(100, sign * 0.7) == ""
    assert court.train(50, sign * 0.1) == ""  # none is smaller: it is on the front
    assert court.train(200, sign * 0.65) == ""  # above the median 0.5 of all three
    assert court.train(200, sign * 0.2).startswith("pruned after evaluation 1 of 9: val/score")
    assert court.train(60, sign * 0.05) == ""  # only one is no larger


def test_the_best_value_counts_and_the_last_evaluation_prunes_nothing() -> None:
    court = Court()
    for _ in range(2):
        assert court.train(10, *[0.5] * 9) == ""
    assert court.train(20, 0.6, 0.1, 0.1) == ""
    assert court.train(20, *[None] * 2).endswith("networks that are no larger: 0.5000)")
    late = Court(evaluations=9)
    for _ in range(3):
        assert late.train(10, *[0.5] * 9) == ""
    assert late.train(10, *[0.1] * 9) == ""


def test_a_resumed_judge_knows_the_evaluations_of_before() -> None:
    court = Court()
    court.train(10, 0.5)
    court.train(10, 0.6)
    again = Court()
    again.sizes = [10, 10]
    for number, value in enumerate((0.5, 0.6)):
        again.judge.repeat(Trial(number, [], reports={1: value}))
    assert court.train(10, 0.2) == again.train(10, 0.2) != ""


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"pruner": "halving"}, "sweep.pruner=median compares networks of a size"),
        ({"pruner": "median", "metric": ["test/accuracy", "parameters"]}, "name a val/ one first"),
    ],
)
def test_a_pruner_that_cannot_compare_the_objectives_is_refused(
    settings: dict[str, Any], why: str
) -> None:
    sampler = prepared("dataset=digits", **settings)
    with pytest.raises(ConfigError, match=why):
        sampler.open(["dataset=digits", "model.depth=1,2"])


def test_a_single_objective_is_pruned_as_in_other_searches() -> None:
    sampler = prepared("dataset=digits", metric=None, pruner="halving")
    sampler.open(["dataset=digits", "model.depth=1,2"])
    assert [one.metric for one in sampler.objectives] == ["val/accuracy"]
    assert not isinstance(sampler.judge, FrontJudge)


@pytest.mark.parametrize(("limit", "is_limited"), [(None, False), (700, True)])
def test_values_of_networks_that_are_too_large_are_drawn_again(
    limit: int | None, is_limited: bool
) -> None:
    """Widths up to 4 have 2,698 parameters."""
    words = ["dataset=digits", "model.depth=1", "model.head=average"]
    sampler = prepared(*words, spaces={}, max_parameters=limit)
    sampler.open([*words, "model.width=range(0.1,4,0.1)", "model.block=plain,separable"])
    proposals = [sampler.ask(number) for number in range(6)]
    sizes = [sampler.sizes.parameters(one.overrides) for one in proposals if one is not None]
    assert (max(sizes) <= 700) is is_limited


def row(job: int, accuracy: float, parameters: int, status: str = "completed") -> Row:
    best = {"metric": "val/accuracy", "mode": "max", "value": accuracy}
    overrides = [f"model.depth={job}"]
    return {
        "job": job,
        "status": status,
        "best": best,
        "parameters": parameters,
        "overrides": overrides,
        "metrics": {"test/accuracy": accuracy},
        "run": str(job),
    }


def test_the_front_is_a_table_and_a_diagram_from_the_smallest_network_on() -> None:
    rows = [row(0, 0.9, 5000), row(1, 0.8, 700), row(2, 0.7, 900), row(3, 0.95, 10, "pruned")]
    lines = front_lines(rows, ["model.depth"], OBJECTIVES)
    assert lines[0] == "Pareto front of val/accuracy against parameters"
    cells = [line.split() for line in lines[1].splitlines()]
    assert [line[:3] for line in cells[1:]] == [["1", "0.8000", "700"], ["0", "0.9000", "5,000"]]
    plot = front_plot(rows, OBJECTIVES)
    assert plot is not None
    assert plot.lines["Pareto front"] == ([700, 5000], [0.8, 0.9])
    assert plot.lines["pruned trials"] == ([10], [0.95])
    assert plot.log_x
    assert front_lines(rows, ["model.depth"], OBJECTIVES[:1]) == []
    assert front_plot(rows[3:], OBJECTIVES) is None


SMALL = (
    *("-m", *TINY, "sweep=architecture", "launcher=inline", "sweep.random_trials=2"),
    *("model.block=plain", "model.head=average", "model.norm=batch", "model.activation=relu"),
    *("model.kernel_size=3", "model.repeats=1", "model.pooling=max", "sweep.pruner=null"),
)


def test_impossible_networks_are_failed_trials_and_the_search_goes_through(
    dltrain: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "search"
    space = "sweep.space={model.depth:[1,6],model.width:[0.125,0.25,1.5]}"
    limit = "sweep.max_parameters=4000"
    words = (*SMALL, space, limit, "sweep.trials=6", f"hydra.sweep.dir={folder}", "--json")
    outcome = dltrain(*words)
    assert outcome.code == 0, outcome.err
    rows = outcome.json["jobs"]
    deep = [one for one in rows if "model.depth=6" in one["overrides"]]
    assert len(rows) == 6
    assert len(deep) == 3
    assert all(one["status"] == "failed" for one in deep)
    assert all("pixels are too few; set a lower model.depth" in one["reason"] for one in deep)
    trained = [one for one in rows if one["status"] == "completed"]
    assert {one["parameters"] for one in trained} == {94, 178, 1018}
    assert outcome.json["front"] == str(folder / "front.png")
    assert (folder / "front.png").is_file()
    assert {one["job"] for one in outcome.json["best"]} <= {one["job"] for one in trained}
    again = dltrain("resume", str(folder), "--json")
    assert again.code == 0, again.err
    assert again.json["jobs"] == rows
    smaller = (*SMALL, "model.depth=1", "model.width=0.125,1.5", "sweep.max_parameters=500")
    limited = dltrain(*smaller, "sweep.trials=2", f"hydra.sweep.dir={tmp_path / 'b'}", "--json")
    reasons = [one.get("reason", "") for one in limited.json["jobs"]]
    assert sum("has 1,018 parameters, more than" in reason for reason in reasons) == 1


def test_a_search_in_which_no_network_can_be_built_has_failed(
    dltrain: Command, tmp_path: Path
) -> None:
    words = (*SMALL, "model.depth=1", "model.width=1,1.5", "sweep.max_parameters=50")
    outcome = dltrain(*words, "sweep.trials=2", f"hydra.sweep.dir={tmp_path / 'a'}")
    assert outcome.code == 1
    assert "2 of 2 jobs did not finish" in outcome.err


def test_the_time_of_a_prediction_is_an_objective_and_no_metric(
    dltrain: Command, tmp_path: Path
) -> None:
    words = ("model.width=0.125,0.25", "model.depth=1", "sweep.metric=[null,latency_ms]")
    folder = tmp_path / "search"
    outcome = dltrain(*SMALL, *words, "sweep.trials=2", f"hydra.sweep.dir={folder}", "--json")
    assert outcome.code == 0, outcome.err
    for one in outcome.json["jobs"]:
        assert one["latency_ms"] > 0
        results = json.loads((Path(one["run"]) / "results.json").read_text())
        assert results["latency_ms"] == one["latency_ms"]
        assert "latency" not in (Path(one["run"]) / "metrics.jsonl").read_text()
    header = (folder / "results.csv").read_text().splitlines()[0]
    assert "parameters,latency_ms" in header


def test_a_search_of_a_killed_sweep_proposes_the_same_trials(
    dltrain: Command, tmp_path: Path
) -> None:
    words = (*SMALL, "model.width=interval(0.1,0.4)", "model.depth=1")
    whole = dltrain(*words, "sweep.trials=4", f"hydra.sweep.dir={tmp_path / 'a'}", "--json")
    dltrain(*words, "sweep.trials=3", f"hydra.sweep.dir={tmp_path / 'b'}", "--json")
    more = dltrain("resume", str(tmp_path / "b"), "sweep.trials=4", "--json")
    overrides = [one["overrides"] for one in whole.json["jobs"]]
    assert overrides == [one["overrides"] for one in more.json["jobs"]]
