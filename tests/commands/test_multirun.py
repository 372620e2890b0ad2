"""Grids of runs: what is expanded, where the jobs lie, and that one failure costs one job."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.grid import expand
from dltrain.config.groups import groups
from dltrain.errors import Interrupted, UsageError
from dltrain.sweeps.jobs import job
from dltrain.sweeps.journal import read_journal
from dltrain.sweeps.names import short_names, title_of
from dltrain.sweeps.trial import trials_of

SMOKE = ("model=perceptron", "debug=smoke", "callbacks=quiet")
TINY = (
    "dataset=synthetic",
    "dataset.source.train_samples=64",
    "dataset.source.test_samples=16",
    "dataset.batch_size=16",
)
DIVERGING = (
    *TINY,
    "model=mlp",
    "optimizer=sgd",
    "callbacks=quiet",
    "trainer.epochs=1",
    "trainer.log_every=1",
)


def sweep_folder(root: Path) -> Path:
    """The one sweep under `root`, named <date>/<time>_sweep."""
    (folder,) = root.glob("*/*")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\d{6}_sweep", folder.relative_to(root).as_posix()
    )
    return folder


def rows_of(sweep: Path) -> list[dict[str, Any]]:
    """The rows of the sweep's journal, by number."""
    trials = trials_of(read_journal(sweep), sweep)
    return [trial.row for _, trial in sorted(trials.items()) if trial.row is not None]


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        ([], [[]]),
        (["seed=1"], [["seed=1"]]),
        (["seed=1,2"], [["seed=1"], ["seed=2"]]),
        (
            ["model=cnn,mlp", "name=x", "optimizer.lr=1e-3,0.1"],
            [
                ["model=cnn", "name=x", "optimizer.lr=0.001"],
                ["model=cnn", "name=x", "optimizer.lr=0.1"],
                ["model=mlp", "name=x", "optimizer.lr=0.001"],
                ["model=mlp", "name=x", "optimizer.lr=0.1"],
            ],
        ),
        (["seed=range(1,4)"], [["seed=1"], ["seed=2"], ["seed=3"]]),
        (["seed=choice(5,7)"], [["seed=5"], ["seed=7"]]),
        (
            ["regularization=[],[l2],[l1,l2]"],
            [["regularization=[]"], ["regularization=[l2]"], ["regularization=[l1,l2]"]],
        ),
        (["model=glob(m*)"], [["model=mlp"]]),
        (
            ["model=mlp", "model.activation=glob(*elu)"],
            [
                ["model=mlp", f"model.activation={name}"]
                for name in ("relu", "leaky_relu", "elu", "gelu")
            ],
        ),
        (["model=glob(*)"], [[f"model={option}"] for option in groups()["model"]]),
        (["+seed=1,2"], [["+seed=1"], ["+seed=2"]]),
        (["trainer.epochs=null,3"], [["trainer.epochs=null"], ["trainer.epochs=3"]]),
        (["optimizer={lr:1},{lr:2}"], [["optimizer={lr:1}"], ["optimizer={lr:2}"]]),
    ],
    ids=str,
)
def test_a_grid_is_the_product_of_the_swept_values(
    overrides: list[str], jobs: list[list[str]]
) -> None:
    assert expand(overrides) == jobs


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=interval(1,2)", "a grid needs values, such as optimizer.lr=1,2,3"),
        ("model=glob(x*)", "no model is called like that"),
        ("trainer.epochs=glob(*)", "its values have no names"),
        ("seed", "settings are KEY=VALUE"),
    ],
)
def test_what_is_no_grid_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        expand([override])


def test_every_job_has_a_folder_a_row_and_its_results(dltrain, tmp_path: Path) -> None:
    outcome = dltrain(
        "-m", "launcher=inline", *SMOKE, "seed=1,2", "optimizer.lr=0.1,0.01", "--json"
    )
    assert outcome.code == 0, outcome.err
    sweep = sweep_folder(tmp_path / "outputs")
    assert sorted(path.name for path in sweep.iterdir()) == [
        ".lock",
        "0",
        "1",
        "2",
        "3",
        "curves.png",
        "jobs",
        "results.csv",
        "sweep.jsonl",
    ]
    rows = rows_of(sweep)
    assert [row["job"] for row in rows] == [0, 1, 2, 3]
    assert [row["overrides"][-2:] for row in rows] == [
        ["seed=1", "optimizer.lr=0.1"],
        ["seed=1", "optimizer.lr=0.01"],
        ["seed=2", "optimizer.lr=0.1"],
        ["seed=2", "optimizer.lr=0.01"],
    ]
    for row in rows:
        folder = sweep / str(row["job"])
        assert Path(row["run"]).resolve() == folder.resolve()
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        assert results["status"] == row["status"] == "completed"
        assert results["metrics"] == row["metrics"]
        assert (
            json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["overrides"]
            == row["overrides"]
        )
    assert outcome.json["jobs"] == rows_of(Path(outcome.json["sweep"]))
    table = outcome.out.partition(f"\n{outcome.json['sweep']}\n")[2].splitlines()
    assert table[0].split() == [
        "job",
        "seed",
        "optimizer.lr",
        "status",
        "val/accuracy",
        "test/accuracy",
        "test/loss",
        "time",
    ]
    assert [line.split()[:4] for line in table[1:5]] == [
        ["0", "1", "0.1", "completed"],
        ["1", "1", "0.01", "completed"],
        ["2", "2", "0.1", "completed"],
        ["3", "2", "0.01", "completed"],
    ]


def test_paths_output_is_the_root_of_a_sweep(dltrain, tmp_path: Path) -> None:
    outcome = dltrain("-m", "launcher=inline", *SMOKE, "seed=1,2", "paths.output=here")
    assert outcome.code == 0, outcome.err
    assert len(rows_of(sweep_folder(tmp_path / "here"))) == 2
    assert not (tmp_path / "outputs").exists()


def test_a_job_that_diverges_costs_one_job(dltrain, tmp_path: Path) -> None:
    outcome = dltrain("-m", "launcher=inline", *DIVERGING, "optimizer.lr=1e30,0.01")
    assert outcome.code == 1
    sweep = sweep_folder(tmp_path / "outputs")
    rows = rows_of(sweep)
    assert [row["status"] for row in rows] == ["diverged", "completed"]
    assert "diverged" in rows[0]["reason"]
    assert "1 of 2 jobs did not finish" in outcome.err
    assert (
        json.loads((sweep / "0" / "results.json").read_text(encoding="utf-8"))["status"]
        == "diverged"
    )
    assert re.search(r"^\s*0\s+1e\+?30\s+diverged\b.*$", outcome.out, re.MULTILINE)
    assert re.search(r"^\s*1\s+0\.01\s+completed\b.*$", outcome.out, re.MULTILINE)
    assert rows[0]["reason"].splitlines()[0][:40] in outcome.out.partition(f"{sweep.name}\n")[2]


def test_a_job_that_raises_costs_one_job(
    dltrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = job.start

    def fragile(composed: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        if composed.config["seed"] == 2:
            raise MemoryError("out of memory")
        return start(composed, *rest, **more)

    monkeypatch.setattr(job, "start", fragile)
    outcome = dltrain("-m", "launcher=inline", *SMOKE, "seed=1,2,3", "--json")
    assert outcome.code == 1
    rows = rows_of(sweep_folder(tmp_path / "outputs"))
    assert [row["status"] for row in rows] == ["completed", "failed", "completed"]
    assert rows[1]["reason"] == "MemoryError: out of memory"
    table = outcome.out.partition(f"\n{outcome.json['sweep']}\n")[2]
    assert "failed" in table
    assert "MemoryError: out of memory" in table
    assert outcome.json["exit_code"] == 1
    assert len(outcome.json["jobs"]) == 3


def test_an_interrupted_job_ends_the_sweep(
    dltrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **more: Any) -> dict[str, Any]:
        raise Interrupted(2)

    monkeypatch.setattr(job, "start", interrupted)
    outcome = dltrain("-m", "launcher=inline", *SMOKE, "seed=1,2,3")
    assert outcome.code == 130
    assert [row["status"] for row in rows_of(sweep_folder(tmp_path / "outputs"))] == ["interrupted"]


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (("model=perceptron,ccn",), ["did you mean cnn?"]),
        (("seed=1,2", "optimizer.lrr=0.1"), ["did you mean optimizer.lr"]),
        (("optimizer.lr=0.1,-1", "device.precision=fp32,fp8"), ["got -1", "did you mean fp32?"]),
        (("model=cnn,perceptron", "regularization=[dropout]"), ["model=perceptron has none"]),
    ],
    ids=str,
)
def test_a_mistake_in_any_job_refuses_the_sweep_before_the_first(
    overrides: tuple[str, ...], messages: list[str], dltrain, tmp_path: Path
) -> None:
    outcome = dltrain("-m", "launcher=inline", "debug=smoke", "callbacks=quiet", *overrides)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1 + len(messages), outcome.err
    for message in messages:
        assert message in outcome.err
    assert outcome.out == ""
    assert not list(tmp_path.iterdir())


def test_the_table_shows_what_each_task_watches(dltrain) -> None:
    """GANs show the distance: they have neither accuracy nor loss on the test set."""
    words = (
        "model=gan",
        "model.generator_sizes=[8]",
        "model.discriminator_sizes=[8]",
        "trainer.epochs=1",
    )
    outcome = dltrain(
        "-m",
        "launcher=inline",
        *words,
        "task.loss=nonsaturating,hinge",
        "callbacks=quiet",
        "dataset.batch_size=200",
    )
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    start = lines.index(["job", "task.loss", "status", "val/distance", "test/distance", "time"])
    assert [line[:3] for line in lines[start + 1 : start + 3]] == [
        ["0", "nonsaturating", "completed"],
        ["1", "hinge", "completed"],
    ]
    assert all(float(line[3]) > 0 for line in lines[start + 1 : start + 3])


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["model", "optimizer.lr"], ["model", "lr"]),
        (["+seed", "dataset/source"], ["seed", "source"]),
        (["optimizer.lr", "task.optimizers.critic.lr"], ["optimizer.lr", "critic.lr"]),
        (
            ["epochs", "trainer.epochs", "dataset.epochs"],
            ["epochs", "trainer.epochs", "dataset.epochs"],
        ),
        ([], []),
    ],
)
def test_swept_keys_are_called_by_the_end_that_tells_them_apart(
    keys: list[str], names: list[str]
) -> None:
    assert list(short_names(keys).values()) == names


@pytest.mark.parametrize(
    ("job", "title"),
    [
        (["model=cnn", "optimizer.lr=0.001"], "3 model=cnn lr=0.001"),
        (["regularization=[l1,l2]"], "3 regularization=[l1,l2]"),
        (["dataset.path=/data/a b.csv"], "3 path=-data-a b.csv"),
        (["model={_target_: mine.Net}"], "3 model={_target_- mine.Net}"),
        (["name='x|y?'"], "3 name=x-y-"),
        (["name=..."], "3 name="),
        (["name=猫" + "猫" * 200], "3 name=" + "猫" * 44),
    ],
)
def test_the_title_of_a_job_has_the_swept_values(job: list[str], title: str) -> None:
    """A name that every file system takes."""
    assert title_of(3, job, [one.partition("=")[0] for one in job]) == title
    assert title_of(3, job, []) == ""


def test_tensorboard_names_the_jobs_of_a_sweep_by_swept_values(dltrain, tmp_path: Path) -> None:
    """Runs are called by the folders of their events; in HParams what was swept comes first; a
    resume finds its folder.
    """
    argv = (*TINY, "model=perceptron", "optimizer=sgd", "optimizer.lr=0.1,0.01", "trainer.epochs=1")
    outcome = dltrain(
        "-m", "launcher=inline", *argv, "callbacks.progress=null", "callbacks.explain=null"
    )
    assert outcome.code == 0, outcome.err
    sweep = sweep_folder(tmp_path / "outputs")
    titles = ["0 lr=0.1", "1 lr=0.01"]
    assert sorted(
        {path.parent.relative_to(sweep).as_posix() for path in sweep.rglob("events.*")}
    ) == [".", *titles]
    found, metrics = hparams_shown(sweep)
    assert found[0] == ("optimizer.lr", True)
    assert metrics[:3] == ["val/accuracy", "test/accuracy", "test/loss"]
    assert "train/loss" in metrics
    assert dict(found)["optimizer"] is False
    assert "val/accuracy (best)" in dict(found)
    assert not [name for name, _ in found if "_target_" in name or "callbacks" in name]
    before = len(list((sweep / titles[0]).iterdir()))
    assert dltrain("resume", str(sweep / "0"), "trainer.epochs=2").code == 0
    assert len(list((sweep / titles[0]).iterdir())) == before + 1
    assert not (sweep / "0" / "tensorboard").exists()


def hparams_shown(folder: Path) -> tuple[list[tuple[str, bool]], list[str]]:
    """Name of each hyper-parameter, and whether it differs between runs, in the order in which
    TensorBoard shows them; and the metrics.
    """
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = Context(TBContext(data_provider=provider))
    metadata = backend.hparams_metadata(RequestContext(), "")
    experiment = backend.experiment_from_metadata(RequestContext(), "", True, metadata, [])
    keys = [(info.name, info.differs) for info in experiment.hparam_infos]
    return keys, [info.name.tag for info in experiment.metric_infos]


def test_a_sweep_without_tensorboard_names_no_command_for_its_curves(dltrain) -> None:
    words = ("-m", "launcher=inline", "dataset=digits", "model=mlp,perceptron", "trainer.steps=1")
    quiet = dltrain(*words, "callbacks=quiet")
    assert quiet.code == 0, quiet.err
    assert "tensorboard" not in quiet.out
    drawn = dltrain(*words, "debug=smoke")
    assert "curves  tensorboard --logdir outputs/" in drawn.out
