"""Samplers of Optuna: the same trials for the same seed, killed or not; objectives; checks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

from dltrain.errors import ConfigError, InputError, UsageError
from dltrain.sweeps.journal import read_journal
from dltrain.sweeps.samplers.cmaes import CmaEsSampler
from dltrain.sweeps.samplers.grid import GridSampler
from dltrain.sweeps.samplers.random_search import RandomSampler
from dltrain.sweeps.samplers.search import SearchSampler
from dltrain.sweeps.samplers.tpe import TpeSampler
from dltrain.sweeps.summary.ranking import Criterion, best_rows
from dltrain.sweeps.trial import Row, Trial

Command = Callable[..., Outcome]
FIXED = ("model=mlp", "dataset=digits", "trainer.epochs=9")
NUMBERS = ("optimizer.lr=tag(log,interval(1e-4,1))", "dataset.batch_size=int(interval(8,200))")
SPACE = (*FIXED, *NUMBERS, "model.activation=relu,tanh")
TINY = ("launcher=inline", "callbacks=quiet", "model=perceptron", "trainer.epochs=3")


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


def value_of(trial: Trial, step: int) -> float:
    """The accuracy of a trial after an evaluation: highest at lr 0.01 and a small batch."""
    values = dict(one.split("=") for one in trial.overrides)
    distance = abs(float(values["optimizer.lr"]) - 0.01) + int(values["dataset.batch_size"]) / 1000
    return 1 - distance - 0.3 / step


def row_of(trial: Trial, value: float, status: str = "completed") -> Row:
    best = {"metric": "val/accuracy", "mode": "max", "value": value}
    return {"job": trial.number, "overrides": trial.overrides, "status": status, "best": best}


class Rehearsal:
    """A sweep without training: its trials, as a coordinator asks for them, one at a time."""

    def __init__(self, sampler: SearchSampler, space: tuple[str, ...] = SPACE) -> None:
        self.sampler = sampler
        sampler.open(list(space))
        self.trials: list[Trial] = []
        self.failing: set[int] = set()

    def resumed(self, sampler: SearchSampler, space: tuple[str, ...] = SPACE) -> Rehearsal:
        """The sweep in a new process, which knows what JSON of the journal holds."""
        later = Rehearsal(sampler, space)
        for old in self.trials:
            state = json.loads(json.dumps(old.state))
            copied = Trial(old.number, old.overrides, old.identity, state, dict(old.reports))
            copied.answers = dict(old.answers)
            copied.row = old.row
            later.trials.append(copied)
        later.failing = set(self.failing)
        sampler.restore(later.trials)
        return later

    def ask(self) -> Trial | None:
        number = len(self.trials)
        proposal = self.sampler.ask(number)
        if proposal is None:
            return None
        trial = Trial(number, proposal.overrides, proposal.identity, proposal.state)
        self.trials.append(trial)
        return trial

    def train(self, trial: Trial, last: int = 9) -> None:
        """Evaluate a trial up to `last`; end it if that is its end, or if it is pruned.

        With a lower `last` it is killed after that evaluation, even if it was to be pruned.
        """
        for step in range(1, last + 1):
            if step not in trial.answers:
                value = value_of(trial, step)
                trial.answers[step] = self.sampler.report(trial, step, value)
                trial.reports[step] = value
            if trial.answers[step]:
                if last == 9:
                    self.end(trial, step, "pruned")
                return
        if last == 9:
            self.end(trial, last, "failed" if trial.number in self.failing else "completed")

    def end(self, trial: Trial, step: int, status: str) -> None:
        trial.row = row_of(trial, value_of(trial, step), status)
        self.sampler.tell(trial)

    def finish(self) -> list[tuple[list[str], str]]:
        """Train what is left, and return the overrides and the status of every trial."""
        for trial in self.trials:
            if not trial.is_done:
                self.train(trial)
        while (trial := self.ask()) is not None:
            self.train(trial)
        return [(trial.overrides, trial.status) for trial in self.trials]


SAMPLERS: dict[str, Callable[..., SearchSampler]] = {
    "random": RandomSampler,
    "tpe": lambda **settings: TpeSampler(random_trials=4, **settings),
    "cmaes": CmaEsSampler,
}


@pytest.mark.parametrize("pruner", [None, "median", "halving", "hyperband"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_killed_sweep_proposes_the_trials_of_an_undisturbed_one(name: str, pruner: Any) -> None:
    """It is killed between trials, and within one whose evaluations are then repeated."""

    def sampler() -> SearchSampler:
        return SAMPLERS[name](trials=16, pruner=pruner, pruner_trials=3, seed=5)

    undisturbed = Rehearsal(sampler()).finish()
    assert len(undisturbed) == 16
    assert len({tuple(overrides) for overrides, _ in undisturbed}) == 16
    assert ("pruned" in {status for _, status in undisturbed}) == (pruner is not None)
    sweep = Rehearsal(sampler())
    for count in (3, 7, 12):
        while len(sweep.trials) < count:
            trial = sweep.ask()
            assert trial is not None
            sweep.train(trial)
        killed = sweep.ask()
        assert killed is not None
        sweep.train(killed, last=2)
        sweep = sweep.resumed(sampler())
        sweep.train(sweep.trials[-1])
    assert sweep.finish() == undisturbed


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_seed_proposes_other_trials(name: str) -> None:
    first = Rehearsal(SAMPLERS[name](trials=3)).finish()
    assert Rehearsal(SAMPLERS[name](trials=3)).finish() == first
    assert Rehearsal(SAMPLERS[name](trials=3, seed=1)).finish() != first


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_search_is_better_than_chance(name: str) -> None:
    """Within 40 trials it comes closer to the best learning rate than random values do."""
    best = {}
    for one in ("random", name):
        sweep = Rehearsal(SAMPLERS[one](trials=40), (*FIXED, *NUMBERS))
        sweep.finish()
        values = sorted(value_of(trial, 9) for trial in sweep.trials)
        best[one] = sum(values[-10:])
    assert best[name] > best["random"] + 0.1


def test_failed_trials_are_redone_with_their_values() -> None:
    """Optuna learns nothing from a failure; on a resume the same trial runs again."""
    sweep = Rehearsal(TpeSampler(trials=6, random_trials=2))
    sweep.failing = {1, 3}
    assert [status for _, status in sweep.finish()].count("failed") == 2
    states = [sweep.sampler.known.frozen(number).state.name for number in range(6)]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    later = sweep.resumed(TpeSampler(trials=8, random_trials=2))
    later.failing = set()
    overrides = [trial.overrides for trial in sweep.trials]
    rows = later.finish()
    assert [one for one, _ in rows][:6] == overrides
    assert [status for _, status in rows] == ["completed"] * 8


@pytest.mark.parametrize("name", SAMPLERS)
def test_trials_are_asked_for_while_others_run(name: str) -> None:
    """Four side by side differ, and a resume knows which had ended when each was proposed."""
    sweep = Rehearsal(SAMPLERS[name](trials=20))
    for _ in range(4):
        waiting = [sweep.ask() for _ in range(4)]
        for trial in reversed(waiting):
            assert trial is not None
            sweep.train(trial)
    assert sweep.trials[15].state["unfinished"] == [12, 13, 14]
    assert len({tuple(trial.overrides) for trial in sweep.trials}) == 16
    later = sweep.resumed(SAMPLERS[name](trials=20))
    assert later.finish() == sweep.finish()


def test_more_trials_than_values_end_when_all_are_tried() -> None:
    """Each of the six is tried once, although a search would rather repeat the best."""
    space = (*FIXED, "optimizer.lr=0.01,0.02,0.5", "dataset.batch_size=range(10,30,10)")
    sweep = Rehearsal(TpeSampler(trials=50, random_trials=1), space)
    assert sweep.sampler.total() == 6
    rows = sweep.finish()
    assert len({tuple(overrides) for overrides, _ in rows}) == len(rows) == 6
    same = (*FIXED, "dataset.batch_size=10", "optimizer.lr=0.01,1e-2,0.010,0.02")
    alike = Rehearsal(TpeSampler(trials=50), same)
    assert len(alike.finish()) == alike.sampler.total() == 2


def test_an_interrupted_trial_is_no_failure() -> None:
    """It runs again with the same values after a resume, so Optuna does not learn its end."""
    sweep = Rehearsal(TpeSampler(trials=4, random_trials=2))
    trial = sweep.ask()
    assert trial is not None
    sweep.end(trial, 1, "interrupted")
    assert sweep.sampler.known.frozen(0).state.name == "RUNNING"
    later = sweep.resumed(TpeSampler(trials=4, random_trials=2))
    assert later.finish() == Rehearsal(TpeSampler(trials=4, random_trials=2)).finish()


def test_a_lower_number_of_trials_ends_the_sweep() -> None:
    sweep = Rehearsal(RandomSampler(trials=4))
    before = sweep.finish()
    later = sweep.resumed(RandomSampler(trials=2))
    assert later.finish() == before
    assert later.sampler.total() == 4


def test_a_trial_outside_the_space_is_refused() -> None:
    """The file that has the space may have changed."""
    sweep = Rehearsal(RandomSampler(trials=2))
    sweep.finish()
    narrower = [one.replace("(8,200)", "(8,9)") for one in SPACE]
    with pytest.raises(UsageError, match=r"trial 0 of this sweep .* dataset.batch_size: .* 8 to 9"):
        sweep.resumed(RandomSampler(trials=2), tuple(narrower))
    with pytest.raises(UsageError, match=r"optimizer.weight_decay: None is not"):
        sweep.resumed(RandomSampler(trials=2), (*SPACE, "optimizer.weight_decay=0,0.1"))


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (
            ["optimizer.lr=interval(-1,1)", "model.activation=relu,zelu"],
            ["optimizer.lr=-1.0", "> 0", "model.activation=zelu", "2 problems"],
        ),
        (["model=mlp,nothing", "optimizer.lr=interval(0.1,1)"], ["nothing"]),
        (
            ["dataset.batch_size=interval(8,64)"],
            ['needs an integer; type "dataset.batch_size=int(interval(8,64))"'],
        ),
    ],
)
def test_every_choice_and_both_ends_are_checked_at_once(
    words: list[str], answers: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        RandomSampler().open([*FIXED, *words])
    for answer in answers:
        assert answer in str(error.value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_search_needs_something_to_search(name: str) -> None:
    with pytest.raises(UsageError, match=rf"sweep={name} has nothing to search: .*tag\(log"):
        SAMPLERS[name]().open([*FIXED])


def test_a_grid_refuses_intervals() -> None:
    with pytest.raises(UsageError, match=r"sweep=random or sweep=tpe"):
        GridSampler().open([*SPACE])


def test_cma_es_needs_numbers_and_one_metric(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"searches numbers, .* use sweep=tpe"):
        CmaEsSampler().open([*FIXED, "model.activation=relu,tanh"])
    with pytest.raises(ConfigError, match=r"with several use sweep=tpe"):
        CmaEsSampler(metric=["val/loss", "seconds"]).open([*SPACE])
    CmaEsSampler().open([*SPACE])
    assert "draws model.activation at random" in caplog.text


@pytest.mark.parametrize("missing", ["optuna", "cmaes"])
def test_absent_libraries_are_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf'need.? {missing}: pip install "dltrain-cli\[sweep\]"'):
        CmaEsSampler().open([*SPACE])


def opened(metric: Any = None, mode: Any = None, *words: str) -> list[tuple[str, str]]:
    sampler = GridSampler(metric=metric, mode=mode)
    sampler.open([*FIXED, "seed=0,1", *words])
    return [(one.metric, one.mode) for one in sampler.objectives]


@pytest.mark.parametrize(
    ("metric", "mode", "words", "expected"),
    [
        (None, None, [], []),  # the results of the runs say what they watched
        (None, "min", [], [("val/accuracy", "min")]),
        ("val/accuracy", None, [], [("val/accuracy", "max")]),
        ("val/loss", None, [], [("val/loss", "min")]),
        ("test/accuracy", None, [], [("test/accuracy", "max")]),
        ("train/loss", None, [], [("train/loss", "min")]),
        ("seconds", None, [], [("seconds", "min")]),
        ("seconds", "max", [], [("seconds", "max")]),
        (["val/accuracy", "seconds"], None, [], [("val/accuracy", "max"), ("seconds", "min")]),
        (["val/f1", "seconds"], ["min", "max"], [], [("val/f1", "min"), ("seconds", "max")]),
        ("val/loss", None, ["trainer.watch=val/loss"], [("val/loss", "min")]),
        ("val/loss", None, ["debug=smoke"], [("val/loss", "min")]),
    ],
)
def test_a_metric_has_the_direction_that_it_declares(
    metric: Any, mode: Any, words: list[str], expected: list[tuple[str, str]]
) -> None:
    assert opened(metric, mode, *words) == expected


@pytest.mark.parametrize(
    ("metric", "mode", "answer"),
    [
        ("val/acuracy", None, r"sweep.metric=val/acuracy .*not one of the metrics: val/accuracy.*"),
        ("accuracy", None, "val/loss, test/accuracy"),
        ("accuracy", None, r"did you mean val/accuracy\?"),
        ("val/acc", None, r"did you mean val/accuracy\?"),  # not val/auroc
        ("val/los", None, r"did you mean val/loss\?"),
        (["val/loss", "nothing"], None, "sweep.metric=nothing .*train/loss, .*seconds"),
        (["val/loss", "val/loss"], None, "names a metric twice"),
        ("val/loss", ["min", "max"], "a direction for each of 1 metrics"),
        (["val/loss", "seconds"], ["min", "down"], "down is not a direction: max or min"),
    ],
)
def test_unknown_metrics_are_refused_with_those_that_are_known(
    metric: Any, mode: Any, answer: str
) -> None:
    with pytest.raises(ConfigError, match=answer):
        opened(metric, mode)


@pytest.mark.parametrize(
    ("metric", "warns"), [("test/accuracy", True), ("val/accuracy", False), ("seconds", False)]
)
def test_a_choice_by_the_test_set_is_logged(
    caplog: pytest.LogCaptureFixture, metric: str, warns: bool
) -> None:
    opened(metric)
    assert ("test/accuracy chooses by the test set" in caplog.text) is warns
    assert ("val/accuracy chooses without it" in caplog.text) is warns


def test_a_metric_without_a_direction_asks_for_one() -> None:
    sampler = RandomSampler(metric="val/kl")
    words = ["model=vae", "dataset=digits", "optimizer.lr=interval(1e-3,1e-2)"]
    with pytest.raises(ConfigError, match=r"set sweep.mode=max or sweep.mode=min"):
        sampler.open(words)
    chosen = RandomSampler(metric="val/kl", mode="min")
    chosen.open(words)
    assert chosen.objectives == [Criterion("val/kl", "min")]


def test_data_that_must_be_read_for_its_metrics_is_missed_before_the_first_trial() -> None:
    words = ["dataset=tabular", "dataset.path=nowhere.csv", "dataset.target=y", "model=mlp"]
    with pytest.raises((InputError, ConfigError), match=r"nowhere\.csv"):
        RandomSampler().open([*words, "optimizer.lr=interval(1e-3,1e-2)"])


def rows_with(*values: tuple[float | None, float]) -> list[Row]:
    rows: list[Row] = []
    for number, (accuracy, seconds) in enumerate(values):
        metrics = {} if accuracy is None else {"test/accuracy": accuracy}
        rows.append({"job": number, "status": "completed", "metrics": metrics, "seconds": seconds})
    return rows


def test_the_best_row_is_the_first_with_the_best_value() -> None:
    rows = rows_with((0.5, 1), (None, 1), (0.9, 3), (0.9, 2))
    assert [row["job"] for row in best_rows(rows, [Criterion("test/accuracy", "max")])] == [2]
    assert [row["job"] for row in best_rows(rows, [Criterion("test/accuracy", "min")])] == [0]
    rows[2]["status"] = "pruned"
    assert [row["job"] for row in best_rows(rows, [Criterion("test/accuracy", "max")])] == [3]
    assert best_rows(rows, [Criterion("test/loss", "min")]) == []


def test_the_pareto_front_has_every_row_that_no_other_beats() -> None:
    objectives = [Criterion("test/accuracy", "max"), Criterion("seconds", "min")]
    rows = rows_with((0.5, 1), (0.9, 3), (0.8, 4), (0.9, 3), (0.4, 0.5), (None, 0.1), (0.5, 2))
    assert [row["job"] for row in best_rows(rows, objectives)] == [0, 1, 4]


def test_without_objectives_the_watched_metric_decides() -> None:
    rows = [row_of(Trial(number, []), value) for number, value in enumerate([0.1, 0.3, 0.2])]
    sampler = GridSampler()
    assert best_rows(rows, sampler.criteria(rows)) == [rows[1]]
    rows[0]["best"]["mode"] = "min"
    assert best_rows(rows, sampler.criteria(rows)) == []


def test_a_watched_metric_counts_at_its_best_evaluation() -> None:
    row = {**row_of(Trial(0, []), 0.75), "metrics": {"val/accuracy": 0.5, "val/loss": 2.0}}
    assert Criterion("val/accuracy", "max").value(row) == 0.75
    assert Criterion("val/loss", "min").value(row) == 2.0
    assert Criterion("seconds", "min").value(row) is None


def test_several_objectives_are_searched_together() -> None:
    sweep = Rehearsal(TpeSampler(trials=14, random_trials=4, metric=["val/accuracy", "seconds"]))
    while (trial := sweep.ask()) is not None:
        trial.row = {**row_of(trial, value_of(trial, 9)), "seconds": float(trial.number)}
        sweep.sampler.tell(trial)
    assert sweep.sampler.known.frozen(13).values == [value_of(sweep.trials[13], 9), 13.0]
    front = best_rows([trial.row for trial in sweep.trials if trial.row], sweep.sampler.objectives)
    assert 0 in [row["job"] for row in front]


def statuses(outcome: Outcome) -> list[tuple[list[str], str]]:
    return [(row["overrides"], row["status"]) for row in outcome.json["jobs"]]


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_sweep_continues_with_more_trials(name: str, dltrain: Command) -> None:
    """Four trials and then six are the six of one command, with the same figures."""
    words = (*TINY, *NUMBERS, f"sweep={name}", "sweep.pruner=halving")
    whole = dltrain("-m", *words, "sweep.trials=6", "paths.output=a", "--json")
    assert whole.code == 0, whole.err
    part = dltrain("-m", *words, "sweep.trials=4", "paths.output=a", "--json")
    assert part.code == 0, part.err
    sweep = part.json["sweep"]
    later = dltrain("resume", sweep, "sweep.trials=6", "--json")
    assert later.code == 0, later.err
    assert statuses(later) == statuses(whole)
    metrics = [row["metrics"] for row in later.json["jobs"]]
    assert metrics == [row["metrics"] for row in whole.json["jobs"]]
    started = [one["number"] for one in read_journal(Path(sweep)) if one["event"] == "start"]
    assert started == [0, 1, 2, 3, 4, 5]


def test_wrong_settings_of_a_search_are_reported_at_once(dltrain: Command) -> None:
    words = ("sweep.space=3", "sweep.trials=0", "sweep.pruner=mean", "sweep.mode=up", "seed=1,2")
    outcome = dltrain("-m", "sweep=tpe", *words)
    assert outcome.code == 2
    for word in words[:4]:
        assert word in outcome.err


def test_the_same_command_continues_a_search(dltrain: Command) -> None:
    """resume=auto finds the sweep by its space, and trains no trial twice."""
    words = ("-m", *TINY, *NUMBERS, "sweep=random", "resume=auto", "--json")
    first = dltrain(*words, "sweep.trials=1")
    assert first.code == 0, first.err
    later = dltrain(*words, "sweep.trials=2")
    assert later.code == 0, later.err
    assert later.json["sweep"] == first.json["sweep"]
    assert later.json["jobs"][0] == first.json["jobs"][0]
    assert len(later.json["jobs"]) == 2
    other = dltrain(*words, "sweep.trials=1", "sweep.seed=1")
    assert other.json["sweep"] != first.json["sweep"]


def test_a_space_of_a_file_is_searched(dltrain: Command, tmp_path: Path) -> None:
    file = tmp_path / "own/sweep/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "defaults: [tpe]\ntrials: 3\nspace:\n"
        "  optimizer.lr: tag(log, interval(1e-4, 1e-1))\n"
        "  dataset.batch_size: [32, 64]\n"
    )
    typed = ("sweep=mine", *TINY, "dataset.batch_size=range(16,18)", "--config-dir", "own")
    outcome = dltrain("-m", *typed, "--json")
    assert outcome.code == 0, outcome.err
    assert "sweep.space.dataset.batch_size is not read: the command sets" in outcome.err
    rows = outcome.json["jobs"]
    assert len(rows) == 3
    for row in rows:
        values = dict(one.split("=") for one in row["overrides"])
        assert 1e-4 <= float(values["optimizer.lr"]) <= 0.1
        assert values["dataset.batch_size"] in ("16", "17")  # what is typed counts


def test_a_wrong_trial_fails_alone_and_the_sweep_can_be_resumed(dltrain: Command) -> None:
    """Each choice fits by itself; two of them together do not."""
    words = ("launcher=inline", "callbacks=quiet", "trainer.epochs=1", "sweep=random")
    space = ("optimizer=sgd", "optimizer.momentum=0.9,0.0", "optimizer.nesterov=false,true")
    outcome = dltrain("-m", *words, *space, "model=perceptron", "sweep.trials=8", "--json")
    assert outcome.code == 1
    rows = outcome.json["jobs"]
    assert len(rows) == 4
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(failed) == 1
    assert "esterov" in failed[0]["reason"]
    again = dltrain("resume", outcome.json["sweep"], "--json")
    assert again.code == 1
    assert [row["status"] for row in again.json["jobs"]] == [row["status"] for row in rows]
