"""Hydra's own settings that mean the same here: the folder and name of a run, and tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dltrain.cli import parse
from dltrain.errors import UsageError
from dltrain.options import Options

QUICK = ("dataset=gates", "callbacks=quiet", "trainer.epochs=1")


def test_a_run_in_exactly_the_folder_that_is_named(dltrain, tmp_path: Path) -> None:
    outcome = dltrain(*QUICK, "hydra.run.dir=here/my_run", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["run"] == "here/my_run"
    assert (tmp_path / "here" / "my_run" / "results.json").is_file()
    assert not (tmp_path / "outputs").exists()
    assert dltrain("resume", "here/my_run", "trainer.epochs=2").code == 0
    again = dltrain(*QUICK, "hydra.run.dir=here/my_run")
    assert again.code == 2
    assert "here/my_run: exists already; a new run needs a folder of its own" in again.err


def test_a_sweep_in_exactly_the_folder_that_is_named(dltrain, tmp_path: Path) -> None:
    outcome = dltrain(
        "-m", "launcher=inline", *QUICK, "seed=1,2", "hydra.sweep.dir=sweep", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {"0", "1", "results.csv"}
    assert dltrain("-m", "launcher=inline", *QUICK, "seed=1,2", "hydra.sweep.dir=sweep").code == 2


def test_the_name_of_a_job_is_that_of_the_run(dltrain) -> None:
    outcome = dltrain("config", "name", "hydra.job.name=mine")
    assert (outcome.code, outcome.stdout) == (0, "mine\n")


def test_verbose_shows_tracebacks(dltrain) -> None:
    assert "Traceback" in dltrain("model=ccn", "hydra.verbose=true").err
    assert "Traceback" not in dltrain("model=ccn", "hydra.verbose=false").err


@pytest.mark.parametrize(
    "words",
    [
        ("hydra.sweep.dir=x",),
        ("-m", "hydra.run.dir=x"),
        ("check", "hydra.run.dir=x"),
        ("hydra.run.dir=${now:%Y}",),
        ("hydra.run.dir=",),
        ("+hydra.run.dir=x",),
        ("hydra.verbose=[a]",),
        ("hydra/launcher=joblib",),
        ("evaluate", "last", "hydra.job.name=x"),
    ],
    ids=" ".join,
)
def test_what_means_something_else_stays_as_it_is(words: tuple[str, ...]) -> None:
    options = Options(argv=list(words))
    parse(options)
    assert options.overrides == [words[-1]]
    assert options.folder is None


def test_yolo_and_the_verb_after_it() -> None:
    for words, command in (
        (["yolo", "segment", "predict"], "dltrain predict RUN INPUT"),
        (["yolo", "val"], "dltrain evaluate RUN split=val"),
        (["yolo"], "dltrain dataset=yolo dataset.path=FOLDER"),
    ):
        with pytest.raises(UsageError) as raised:
            parse(Options(argv=words))
        assert command in str(raised.value)
