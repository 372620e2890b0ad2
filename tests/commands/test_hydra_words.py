"""Hydra's own settings that mean the same here: the folder and name of a run, and tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dltrain.cli import parse
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.sweeps.launchers.slots import cores

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
        ("hydra/launcher=slurm",),
        ("hydra/sweeper=ax",),
        ("hydra/sweeper/sampler=nsgaii",),
        ("hydra.launcher.setup=[ls]",),
        ("hydra.sweeper.storage=sqlite",),
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


SLURM = ("launcher=submitit", "launcher.cluster=slurm")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("hydra/launcher=basic", ["launcher=inline"]),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=4", ["launcher=local", "launcher.jobs=4"]),
        ("hydra/launcher=submitit_local", ["launcher=submitit", "launcher.cluster=local"]),
        (
            "hydra/launcher=submitit_slurm hydra.launcher.partition=long +hydra.launcher.qos=low",
            [*SLURM, "launcher.partition=long", "launcher.qos=low"],
        ),
        (
            "hydra.launcher.timeout_min=60 hydra.launcher.mem_gb=8 hydra.launcher.gpus_per_node=1",
            ["launcher.time=60", "launcher.memory=8", "launcher.gpus=1"],
        ),
        (
            "hydra.launcher.cpus_per_task=4 hydra.launcher.array_parallelism=9",
            ["launcher.cpus=4", "launcher.jobs=9"],
        ),
        (
            "hydra/launcher=ray hydra.launcher.ray.init.address=auto",
            ["launcher=ray", "launcher.address=auto"],
        ),
        ("hydra/sweeper=basic", []),
        ("hydra/sweeper=optuna hydra.sweeper.n_trials=9", ["sweep=tpe", "sweep.trials=9"]),
        ("hydra/sweeper=optuna hydra/sweeper/sampler=random", ["sweep=random"]),
        ("hydra/sweeper/sampler=cmaes hydra/sweeper=optuna", ["sweep=cmaes"]),
        (
            "hydra.sweeper.direction=maximize hydra.sweeper.sampler.seed=7",
            ["sweep.mode=max", "sweep.seed=7"],
        ),
        ("hydra.sweeper.direction=[minimize,maximize]", ["sweep.mode=[min,max]"]),
        ("hydra.sweeper.max_batch_size=2", ["launcher.jobs=2"]),
        (
            "hydra.sweeper.params.optimizer.lr=interval(0.1,0.2) +hydra.sweeper.params.seed=1,2",
            ["optimizer.lr=interval(0.1,0.2)", "seed=1,2"],
        ),
        ("seed=1,2 name=hydra/launcher=joblib", ["seed=1,2", "name=hydra/launcher=joblib"]),
    ],
)
def test_launchers_and_sweepers_of_hydra(words: str, meant: list[str]) -> None:
    options = Options(argv=["-m", *words.split()])
    parse(options)
    assert options.overrides == meant


def test_a_negative_number_of_jobs_counts_from_the_cores() -> None:
    for count, jobs in ((-1, cores()), (-2, max(1, cores() - 1)), (-999, 1)):
        options = Options(argv=["-m", f"hydra.launcher.n_jobs={count}"])
        parse(options)
        assert options.overrides == [f"launcher.jobs={jobs}"]


def test_a_sweep_in_the_words_of_hydra(dltrain, tmp_path: Path) -> None:
    outcome = dltrain(
        *("-m", *QUICK, "hydra/launcher=basic", "hydra/sweeper=optuna", "hydra.sweep.dir=sweep"),
        *("hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=random"),
        "hydra.sweeper.params.optimizer.lr=interval(0.1,0.2)",
    )
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {"0", "1"}
    assert not (tmp_path / "sweep" / "2").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hydra/launcher=joblib",), "launcher=local is a setting of sweeps: add -m"),
        (("-m", "hydra/launcher=slurm"), "dltrain -m launcher=local launcher.jobs=4"),
        (("-m", "hydra.launcher.nodes=2"), "launcher.gpus=1"),
        (("-m", "hydra/sweeper=ax"), "dltrain -m sweep=tpe"),
        (("-m", "hydra.sweeper.storage=sqlite"), "dltrain resume SWEEP"),
        (("-m", "hydra/launcher=joblib", "hydra.launcher.mem_gb=8"), "launcher.memory"),
    ],
    ids=str,
)
def test_what_has_no_counterpart_is_answered(dltrain, words: tuple[str, ...], message: str) -> None:
    outcome = dltrain(*words)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("group", "meant"),
    [("launcher", "override /launcher: local"), ("sweeper", "override /sweep: tpe")],
)
def test_a_file_that_chooses_them_is_answered(
    dltrain, tmp_path: Path, group: str, meant: str
) -> None:
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    text = f"# @package _global_\ndefaults:\n  - override /hydra/{group}: optuna\n"
    (folder / "mine.yaml").write_text(text)
    outcome = dltrain("-m", "--config-dir", "own", "experiment=mine", "seed=1,2")
    assert outcome.code == 2
    assert f"mine.yaml, line 3: defaults: hydra/{group} is Hydra's own: write `{meant}`" in (
        outcome.err
    )
