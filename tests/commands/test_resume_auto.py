"""`resume=auto`: the key of a run, and what is done with the run that has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from outcome import Outcome

from dltrain.callbacks.timer import Timer
from dltrain.config.compose import compose
from dltrain.engine import Engine
from dltrain.errors import Interrupted
from dltrain.runs.find import all_runs
from dltrain.runs.folder import MANIFEST, METRICS, RESULTS, RunFolder
from dltrain.runs.keys import held_key, key_of, slurm_job

Command = Callable[..., Outcome]
RUN = ("model=mlp", "model.hidden_sizes=[8]", "callbacks=quiet", "trainer.epochs=3")
AUTO = (*RUN, "trainer.save_every=20", "resume=auto")


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let trainings end at a step as by Ctrl-C; 0 lets them be."""
    steps = [0]
    real = Timer.step_end

    def step_end(self: Timer, engine: Engine) -> None:
        real(self, engine)
        if engine.step == steps[0]:
            raise Interrupted(2)

    monkeypatch.setattr(Timer, "step_end", step_end)
    return lambda step: steps.__setitem__(0, step)


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def runs(root: Path = Path("outputs")) -> list[Path]:
    return all_runs(root)


def key(*overrides: str, **environment: str) -> str:
    return key_of(compose(list(overrides)).public, environment)


def test_the_key_is_the_configuration() -> None:
    """Places, logs and the machine do not count; what defines the run does."""
    same = ("resume=auto", "paths.output=x", "paths.data=y", "trainer.log_every=7", "device=cpu")
    others = ("seed=1", "optimizer.lr=0.1", "model=mlp", "trainer.epochs=7", "debug=smoke")
    assert {key(word) for word in same} == {key()}
    assert len({key(word) for word in others} | {key()}) == len(others) + 1


def test_the_key_is_the_name_or_the_job() -> None:
    assert key("name=mine") == key("name=mine", "seed=1", SLURM_JOB_ID="5") == "name=mine"
    assert key(SLURM_JOB_ID="5") == f"slurm=5 {key()}"
    assert key("seed=1", SLURM_JOB_ID="5") != key(SLURM_JOB_ID="5") != key(SLURM_JOB_ID="6")
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_job(array) == "7_2"
    assert slurm_job({"SLURM_ARRAY_TASK_ID": "2"}) is None


def test_a_run_that_was_interrupted_continues(
    dltrain: Command, interrupted_at: Callable[[int], None]
) -> None:
    """The metrics are those of a run without interruption, bit for bit."""
    assert dltrain(*RUN, "trainer.save_every=20", "paths.output=whole").code == 0
    for step in (50, 130):
        interrupted_at(step)
        assert dltrain(*AUTO).code == 130
    interrupted_at(0)
    outcome = dltrain(*AUTO, "--json")
    assert outcome.code == 0, outcome.err
    (run,) = runs()
    assert f"{run} is interrupted; it continues" in outcome.out
    assert outcome.json["run"] == str(run)
    assert outcome.json["status"] == "completed"
    assert (run / METRICS).read_bytes() == (runs(Path("whole"))[0] / METRICS).read_bytes()
    assert len(json.loads((run / MANIFEST).read_text())["resumed"]) == 2


def test_a_finished_run_is_not_trained_again(dltrain: Command) -> None:
    first = dltrain(*AUTO, "--json").json
    again = dltrain(*AUTO, "--json")
    assert again.code == 0
    assert "is completed; nothing is left to train" in again.out
    assert again.json["metrics"] == first["metrics"]
    assert again.json["run"] == first["run"]
    assert len(runs()) == 1


def test_another_configuration_is_another_run(dltrain: Command) -> None:
    for words in ((), ("seed=1",), ("paths.data=elsewhere",)):
        assert dltrain(*AUTO, *words).code == 0
    assert len(runs()) == 2


def test_without_auto_a_new_run_begins(dltrain: Command) -> None:
    assert dltrain(*AUTO, "trainer.epochs=1").code == 0
    assert dltrain(*AUTO, "trainer.epochs=1", "resume=null").code == 0
    assert len(runs()) == 2


def test_a_name_with_another_configuration_is_refused(dltrain: Command) -> None:
    """Unless the run was changed by a resume since then."""
    assert dltrain(*AUTO, "name=mine", "trainer.epochs=1").code == 0
    outcome = dltrain(*AUTO, "name=mine", "trainer.epochs=1", "optimizer.lr=0.5")
    assert outcome.code == 2
    (run,) = runs()
    assert f"the run name=mine is {run}, which has another configuration" in outcome.err
    assert "optimizer.lr: 0.001 -> 0.5" in outcome.err
    assert "name=OTHER begins a new run" in outcome.err
    assert dltrain("resume", str(run), "trainer.epochs=2").code == 0
    assert dltrain(*AUTO, "name=mine", "trainer.epochs=1").code == 0
    assert len(runs()) == 1


def test_what_is_logged_may_change(dltrain: Command, interrupted_at: Callable[[int], None]) -> None:
    interrupted_at(50)
    assert dltrain(*AUTO).code == 130
    interrupted_at(0)
    outcome = dltrain(*AUTO, "paths.data=elsewhere", "trainer.log_every=10")
    assert outcome.code == 0, outcome.err
    (run,) = runs()
    assert json.loads((run / MANIFEST).read_text())["config"]["trainer"]["log_every"] == 10


def test_a_run_whose_files_are_damaged_is_not_continued(dltrain: Command) -> None:
    assert dltrain(*AUTO, "trainer.epochs=1").code == 0
    (run,) = runs()
    (run / MANIFEST).write_text("{")
    assert dltrain(*AUTO, "trainer.epochs=1").code == 0
    assert len(runs()) == 2


def test_a_deleted_run_is_not_continued(dltrain: Command) -> None:
    assert dltrain(*AUTO, "trainer.epochs=1").code == 0
    assert dltrain("runs", "--delete", "last", "--yes").code == 0
    assert dltrain(*AUTO, "trainer.epochs=1").code == 0
    assert len(runs()) == 1


def test_another_process_is_named(dltrain: Command, tmp_path: Path) -> None:
    words = (*AUTO, "name=mine")
    with held_key(Path("outputs"), "name=mine"):
        outcome = dltrain(*words)
    assert outcome.code == 2
    assert "the run of this command (name=mine) is being trained by another process" in outcome.err
    assert dltrain(*words, "trainer.epochs=1").code == 0
    (run,) = runs()
    with RunFolder(run).locked():
        (run / RESULTS).unlink()
        outcome = dltrain(*words, "trainer.epochs=1")
    assert (outcome.code, "is being written by a run" in outcome.err) == (2, True)


def test_a_root_that_cannot_be_written(dltrain: Command) -> None:
    Path("file").write_text("x")
    outcome = dltrain(*AUTO, "paths.output=file")
    assert outcome.code == 2
    assert "paths.output=file: cannot be written" in outcome.err


@pytest.mark.parametrize(
    "words", [["hydra.run.dir=there"], ["-m", "launcher=inline", "hydra.sweep.dir=there"]]
)
def test_a_folder_for_a_new_run_is_refused(words: list[str], dltrain: Command) -> None:
    """The run is found under paths.output, where such a folder is not looked for."""
    outcome = dltrain(*AUTO, "seed=1", *words)
    assert outcome.code == 2
    assert "resume=auto finds its run under paths.output, not in there" in outcome.err
    assert not Path("there").exists()


def test_a_sweep_continues_in_its_folder(
    dltrain: Command, interrupted_at: Callable[[int], None]
) -> None:
    """Finished jobs keep their results, the interrupted one continues, the others are trained."""
    words = ("-m", "launcher=inline", *AUTO, "seed=0,1,2", "optimizer.lr=0.01", "--json")
    interrupted_at(100)
    assert dltrain(*words).code == 130
    assert len(runs()) == 1
    interrupted_at(0)
    outcome = dltrain(*words)
    assert outcome.code == 0, outcome.err
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed"] * 3
    assert {run.parent for run in runs()} == {Path(outcome.json["sweep"])}
    assert [run.name for run in runs()] == ["0", "1", "2"]
    before = [(run / METRICS).stat().st_mtime_ns for run in runs()]
    again = dltrain(*words)
    assert again.code == 0
    assert again.json["sweep"] == outcome.json["sweep"]
    assert [(run / METRICS).stat().st_mtime_ns for run in runs()] == before
    assert dltrain(*words[:-2], "optimizer.lr=0.02", "--json").json["sweep"] != again.json["sweep"]


def test_two_sweeps_at_once(dltrain: Command, tmp_path: Path) -> None:
    words = ("-m", "launcher=inline", *AUTO, "name=mine", "seed=0,1")
    with held_key(Path("outputs"), "sweep name=mine"):
        outcome = dltrain(*words)
    assert (outcome.code, "is being trained by another process" in outcome.err) == (2, True)
    assert runs() == []


def test_an_extension_that_was_killed_is_not_finished(
    dltrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of the earlier end say that the run was continued; it resumes without words."""
    trained = dltrain(*RUN, "--json").json["run"]

    def killed(*arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.runs.continuation.execute", killed)
        with pytest.raises(SystemExit):
            dltrain("resume", trained, "trainer.epochs=4")
    assert json.loads((Path(trained) / RESULTS).read_text())["status"] == "interrupted"
    outcome = dltrain("resume", trained, "--json")
    assert (outcome.code, outcome.json["epochs"]) == (0, 4)


@pytest.mark.parametrize(
    ("value", "run"), [("true", "RUN"), ("last", "last"), ("outputs/x", "outputs/x"), ("1", "RUN")]
)
def test_another_value_is_refused(value: str, run: str, dltrain: Command) -> None:
    outcome = dltrain(*RUN, f"resume={value}")
    assert outcome.code == 2
    hint = f"expected auto or null; to continue a run type: dltrain resume {run}\n"
    assert hint in outcome.err
