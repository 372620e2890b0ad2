"""The results of a sweep: results.csv, the best trial, importance, and TensorBoard's HParams."""

from __future__ import annotations

import csv
import io
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import dltrain as library
from dltrain.config.groups import config_dir
from dltrain.sweeps.find import hint_on_sweep
from dltrain.sweeps.jobs.job import JOB_FILES, SweepJob, perform
from dltrain.sweeps.journal import VERSION, Journal
from dltrain.sweeps.summary import importance
from dltrain.sweeps.summary.best import best_lines, command_lines, command_of
from dltrain.sweeps.summary.csv_file import csv_bytes, csv_table
from dltrain.sweeps.summary.hparams import experiment_bytes
from dltrain.sweeps.summary.importance import axis, importance_of
from dltrain.sweeps.summary.ranking import (
    Criterion,
    best_first,
    best_rows,
    watched_criteria,
)

ACCURACY = Criterion("val/accuracy", "max")
LOSS = Criterion("val/loss", "min")
SECONDS = Criterion("seconds", "min")


def row(job: int, value: float | None = None, status: str = "completed", **more: Any) -> Any:
    """The results of a job whose watched metric is val/accuracy."""
    overrides = more.pop("overrides", [f"seed={job}"])
    results: dict[str, Any] = {"job": job, "overrides": overrides, "status": status}
    results |= {"metrics": {}, "run": f"outputs/{job}", **more}
    if value is not None:
        results["best"] = {"metric": "val/accuracy", "mode": "max", "value": value, "step": 7}
    return results


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> library.Sweep:
    """Four runs over two keys."""
    return library.sweep(
        *("dataset=digits", "model=perceptron,mlp", "optimizer.lr=0.01,0.1"),
        *("trainer.epochs=1", "callbacks.progress=null", "callbacks.pictures=null"),
        **{"launcher": "inline", "paths.output": tmp_path_factory.mktemp("sweeps")},
    )


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_a_file_with_all_that_the_rows_have(sweep: library.Sweep) -> None:
    lines = csv_rows(sweep.table)
    assert [line["number"] for line in lines] == ["0", "1", "2", "3"]
    for line, results in zip(lines, sweep.rows, strict=True):
        assert line["status"] == "completed"
        assert line["attempts"] == "1"
        assert [f"model={line['model']}", f"optimizer.lr={line['optimizer.lr']}"] == [
            override for override in results["overrides"] if override.startswith(("model", "opt"))
        ]
        for name, value in results["metrics"].items():
            assert float(line[name]) == value
        assert float(line["best/value"]) == results["best"]["value"]
        assert (sweep.folder / line["folder"] / "manifest.json").is_file()
        assert shlex.split(line["overrides"]) == results["overrides"]


def test_a_resume_of_a_finished_sweep_leaves_the_table_as_it_is(sweep: library.Sweep) -> None:
    before = sweep.table.read_bytes()
    sweep.table.unlink()
    resumed = library.resume(sweep.folder)
    assert isinstance(resumed, library.Sweep)
    assert resumed.table.read_bytes() == before
    assert resumed.rows == sweep.rows
    assert resumed.best().folder == sweep.best().folder


def test_fields_keep_line_breaks_quotes_and_other_scripts(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    rows = [
        row(0, 0.5, metrics={"val/accuracy": 0.5, "test/größe": math.inf}, overrides=["name=猫"]),
        row(1, status="failed", reason='line "one",\nline two', overrides=["name==1+1"]),
    ]
    table = csv_table(tmp_path, rows, ["name"], {0: 1, 1: 3})
    content = csv_bytes(table)
    assert content.count(b"\r\n") == 3
    first, second = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    assert (first["name"], first["test/größe"], first["folder"]) == ("猫", "", "")
    assert (first["best/metric"], first["best/step"], first["attempts"]) == (
        *("val/accuracy", "7"),
        "1",
    )
    assert second["reason"] == 'line "one",\nline two'
    assert (second["name"], second["val/accuracy"], second["folder"]) == ("=1+1", "", "1")
    assert second["attempts"] == "3"


def test_a_name_that_is_no_utf8_is_escaped() -> None:
    assert csv_bytes([["a\udcff"]]) == b"a\\udcff\r\n"


def test_the_best_trial_has_the_best_value_and_the_first_of_equal_ones_counts() -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, 0.9), row(3, 0.95, "pruned"), row(4, math.nan)]
    assert [one["job"] for one in best_rows(rows, [ACCURACY])] == [1]
    lower = Criterion("val/accuracy", "min")
    assert [one["job"] for one in best_rows(rows, [lower])] == [0]
    assert [one["job"] for one in best_first(rows, ACCURACY)] == [1, 2, 0, 4, 3]
    assert best_rows([], [ACCURACY]) == []
    assert best_rows(rows, []) == []


def test_several_metrics_have_a_front() -> None:
    values = [(0.9, 10.0), (0.8, 5.0), (0.8, 7.0), (0.95, 20.0), (0.8, 5.0), (0.7, 6.0)]
    rows = [row(i, value, seconds=seconds) for i, (value, seconds) in enumerate(values)]
    rows.append(row(6, 0.99))  # without the time
    assert [one["job"] for one in best_rows(rows, [ACCURACY, SECONDS])] == [0, 1, 3]
    lines = best_lines(rows, [ACCURACY, SECONDS])
    assert lines[0] == "best compromise: trial 0: val/accuracy 0.9000, seconds 10.0000  outputs/0"
    assert lines[1] == "  dltrain seed=0"


def test_trials_that_watch_different_metrics_have_no_best_one() -> None:
    other = row(1)
    other["best"] = {"metric": "val/distance", "mode": "min", "value": 1.0}
    rows = [row(0, 0.5), other]
    assert watched_criteria(rows) == []
    (line,) = best_lines(rows, [])
    assert "val/accuracy, val/distance" in line
    assert "sweep.metric=NAME" in line
    assert best_lines([row(0, status="failed")], []) == []


def test_a_metric_that_no_trial_has_is_said() -> None:
    assert best_lines([row(0, 0.5)], [LOSS]) == ["no best trial: no finished one has val/loss"]


def test_the_command_of_the_best_trial_trains_the_same_run(
    sweep: library.Sweep, dltrain: Any
) -> None:
    best = next(one for one in sweep.rows if one["run"] == str(sweep.best().folder))
    words = shlex.split(command_of(best))
    assert words[0] == "dltrain"
    outcome = dltrain(*words[1:], "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"] == best["metrics"]


def test_the_command_is_quoted_and_names_the_folder_of_options(tmp_path: Path) -> None:
    own = tmp_path / "my options"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mine.yaml").write_text("_target_: mine.Net\n")
    overrides = ["dataset.path='a b'", "regularization=[l1,l2]", "name=$x", "plugins=[mine]"]
    with config_dir(str(own)):
        command = command_of(row(0, overrides=overrides))
    assert shlex.split(command) == ["dltrain", *overrides, "--config-dir", str(own)]


@pytest.mark.parametrize("width", [10, 24, 40, 200])
def test_a_long_command_is_one_for_the_shell(width: int) -> None:
    overrides = [f"task.optimizers.critic{i}.lr=0.{i}" for i in range(6)]
    results = row(0, overrides=overrides)
    lines = command_lines(results, width)
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == ["dltrain", *overrides]
    longest = max(map(len, overrides)) + 4 + 2  # one word, its indent and the backslash
    assert max(map(len, lines)) <= max(width, longest)
    assert all(line.endswith("\\") for line in lines[:-1])


def grid(value_of: Any, first: list[str], second: list[str]) -> list[Any]:
    """The rows of a grid over two keys."""
    pairs = [(a, b) for a in first for b in second]
    return [
        row(i, value_of(a, b), overrides=[f"optimizer.lr={a}", f"model={b}", f"seed={i}"])
        for i, (a, b) in enumerate(pairs)
    ]


def test_the_key_that_matters_is_the_important_one() -> None:
    rows = grid(lambda lr, model: float(lr) + 0.01 * (model == "cnn"), ["0.1", "0.9"], ["cnn", "b"])
    shares = importance_of(rows, ["optimizer.lr", "model", "seed"], [ACCURACY])
    assert shares is not None
    assert list(shares.shares) == ["optimizer.lr", "model"]
    assert shares.shares["optimizer.lr"] > 0.8
    assert sum(shares.shares.values()) == pytest.approx(1.0)
    assert shares.lines()[0] == "parameter importance for val/accuracy (fANOVA, 4 trials)"
    again = importance_of(rows, ["optimizer.lr", "model", "seed"], [ACCURACY])
    assert again == shares


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (grid(lambda a, b: 0.5, ["1", "2"], ["a", "b"]), "val/accuracy is the same in all of them"),
        (grid(lambda a, b: float(a), ["1", "2", "3"], ["a"]), "4 finished trials are needed"),
        (grid(lambda a, b: float(a), ["1", "2", "3", "4"], ["a"]), "fewer than two keys"),
        (grid(lambda a, b: math.nan, ["1", "2"], ["a", "b"]), "there are 0"),
    ],
)
def test_importance_that_cannot_be_computed_is_a_line(rows: list[Any], message: str) -> None:
    result = importance_of(rows, ["optimizer.lr", "model"], [ACCURACY])
    assert result is not None
    assert result.shares == {}
    (line,) = result.lines()
    assert message in line


def test_a_key_that_some_trials_lack_has_no_share() -> None:
    rows = grid(lambda a, b: float(a), ["1", "2", "3"], ["a", "b"])
    rows[0]["overrides"].append("model.width=3")
    result = importance_of(rows, ["optimizer.lr", "model", "model.width"], [ACCURACY])
    assert result is not None
    assert set(result.shares) == {"optimizer.lr", "model"}
    assert "model.width" in result.lines()[-1]


def test_seeds_alone_have_no_importance() -> None:
    rows = [row(i, i / 10) for i in range(5)]
    assert importance_of(rows, ["seed"], [ACCURACY]) is None
    assert importance_of(rows, ["seed", "dataset.fold", "model"], [ACCURACY]) is None
    assert importance_of(rows, ["optimizer.lr", "model"], []) is None


def test_absent_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    rows = grid(lambda a, b: float(a), ["1", "2"], ["a", "b"])
    result = importance_of(rows, ["optimizer.lr", "model"], [ACCURACY])
    assert result is not None
    assert result.lines() == [importance.MISSING]


@pytest.mark.parametrize(
    ("texts", "positions"),
    [
        (["1", "2", "3"], [1.0, 2.0, 3.0]),
        (["1e-4", "1e-2", "1"], [-4.0, -2.0, 0.0]),
        (["1", "1", "2", "2"], ["1", "1", "2", "2"]),
        (["1", "null", "3"], ["1", "null", "3"]),
        (["nan", "1", "2"], ["nan", "1", "2"]),
    ],
)
def test_values_of_a_search_are_positions_and_those_of_a_grid_names(
    texts: list[str], positions: list[Any]
) -> None:
    assert axis(texts) == positions


def test_tensorboard_sorts_the_runs_by_the_metric_that_decides(sweep: library.Sweep) -> None:
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(sweep.folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(sweep.folder))
    backend = Context(TBContext(data_provider=provider))
    metadata = backend.hparams_metadata(RequestContext(), "")
    experiment = backend.experiment_from_metadata(RequestContext(), "", True, metadata, [])
    keys = [info.name for info in experiment.hparam_infos]
    assert keys[:3] == ["model", "optimizer.lr", "val/accuracy (best)"]
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics[:2] == ["val/accuracy", "test/accuracy"]
    assert set(metrics) == set(sweep.rows[0]["metrics"])

    request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[0, 1, 2, 3])
    column = request.col_params.add(order=api_pb2.ORDER_DESC)
    column.metric.tag = metrics[0]
    shown = list_session_groups.Handler(RequestContext(), backend, "", request).run()
    jobs = [int(group.name.partition(" ")[0]) for group in shown.session_groups]
    assert jobs[0] == sweep.best_jobs[0]
    values = [sweep.rows[job]["metrics"]["val/accuracy"] for job in jobs]
    assert values == sorted(values, reverse=True)
    assert len(jobs) == 4


def test_values_of_any_kind_are_described_for_tensorboard() -> None:
    settings: list[dict[str, Any]] = [
        {"a": 1, "b": True, "c": None, "d": ["l1"]},
        {"a": 2.5, "b": False, "c": "x", "d": ["l1"]},
    ]
    content = experiment_bytes(settings, ["val/loss"])
    for name in (b"_hparams_/experiment", b"val/loss", b"[l1]"):
        assert name in content


def pruned_after(evaluation: int) -> Any:
    """A decision that prunes after an evaluation."""
    return lambda step, value: "pruned after it" if step == evaluation else ""


def test_a_pruned_run_is_listed_compared_and_evaluated(tmp_path: Path, dltrain: Any) -> None:
    """Its best state is saved, even if its first evaluation ended it."""
    folder = tmp_path / "outputs" / "2030-01-01" / "10-00-00-000000_sweep"
    (folder / JOB_FILES).mkdir(parents=True)
    overrides = ("dataset=digits", "model=perceptron", "trainer.epochs=3", "callbacks=quiet")
    for number in (0, 1):
        job = SweepJob(number, overrides, str(folder), reports=True)
        perform(job, pruned_after(number + 1))
    outcome = dltrain("runs", "--where", "status=pruned", "--json")
    assert outcome.code == 0, outcome.err
    assert [run["status"] for run in outcome.json["runs"]] == ["pruned", "pruned"]
    for number in (0, 1):
        run = library.Run(folder / str(number))
        assert run.status == "pruned"
        assert run.results["reason"] == "pruned after it"
        assert run.results["epochs"] == number + 1
        outcome = dltrain("evaluate", str(run.folder), "split=val", "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["metrics"]["val/accuracy"] == pytest.approx(run.best["value"])
    outcome = dltrain("compare", str(folder / "0"), str(folder / "1"))
    assert outcome.code == 0, outcome.err
    assert "pruned" in outcome.out


def test_a_pruned_trial_is_not_a_failed_one(tmp_path: Path) -> None:
    rows = [row(0, 0.5), row(1, 0.4, "pruned"), row(2, status="failed")]
    assert [one["job"] for one in library.Sweep(tmp_path, rows).failed] == [2]


def test_several_best_runs_ask_for_a_metric(tmp_path: Path) -> None:
    rows = [row(0, 0.5), row(1, 0.4)]
    with pytest.raises(library.UsageError, match="name one metric"):
        library.Sweep(tmp_path, rows, best=[0, 1]).best()


def test_a_sweep_is_not_forked(sweep: library.Sweep) -> None:
    with pytest.raises(library.UsageError, match="is a sweep"):
        library.resume(sweep, fork=True)


def test_a_run_of_an_unfinished_sweep_names_the_sweep(tmp_path: Path) -> None:
    assert hint_on_sweep(tmp_path / "0") == ""
    journal = Journal(tmp_path)
    journal.append("sweep", version=VERSION, overrides=[], config_dir=None)
    for number in (0, 1):
        journal.append("trial", number=number, overrides=[], identity="", state={})
    journal.append("end", number=0, row=row(0, 0.5))
    assert f"`dltrain resume {tmp_path}` completes the sweep" in hint_on_sweep(tmp_path / "0")
    assert "1 unfinished trial;" in hint_on_sweep(tmp_path / "0")
    journal.append("end", number=1, row=row(1, 0.5, "pruned"))
    assert hint_on_sweep(tmp_path / "0") == ""
