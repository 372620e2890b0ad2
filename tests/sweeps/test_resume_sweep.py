"""`dltrain resume SWEEP`: only what is not done runs, in the same folders, with the same result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcome import Outcome

from dltrain.callbacks.timer import Timer
from dltrain.engine import Engine
from dltrain.errors import Interrupted
from dltrain.runs.folder import CONFIG, MANIFEST, METRICS, RunFolder
from dltrain.sweeps.journal import JOURNAL, Journal, read_journal

Command = Callable[..., Outcome]
TINY = ("model=mlp", "model.hidden_sizes=[8]", "callbacks=quiet", "trainer.epochs=2")
GRID = (*TINY, "launcher=inline", "seed=0,1", "optimizer.lr=1e-3,1e-2,1e-1")


class Harm:
    """Ends training number `job` of the process at step `step`, with `error`."""

    def __init__(self) -> None:
        self.job = -1
        self.step = 30
        self.error: BaseException = RuntimeError("a defect of the user")
        self.begun = -1

    def step_end(self, engine: Engine) -> None:
        if engine.step == 1:
            self.begun += 1
        if self.begun == self.job and engine.step == self.step:
            self.job = -1
            raise self.error


@pytest.fixture
def harm(monkeypatch: pytest.MonkeyPatch) -> Harm:
    harm = Harm()
    real = Timer.step_end

    def step_end(self: Timer, engine: Engine) -> None:
        real(self, engine)
        harm.step_end(engine)

    monkeypatch.setattr(Timer, "step_end", step_end)
    return harm


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


def figures(rows: list[dict[str, Any]]) -> list[tuple[int, str, dict[str, float]]]:
    """All of the rows that does not depend on time."""
    return [(row["job"], row["status"], row["metrics"]) for row in rows]


def starts(sweep: Path) -> list[int]:
    """The number of each job that was started, in the order of the starts."""
    return [one["number"] for one in read_journal(sweep) if one["event"] == "start"]


def test_a_grid_of_two_by_three_has_six_rows(dltrain: Command) -> None:
    outcome = dltrain("-m", *GRID, "trainer.epochs=1", "--json")
    assert outcome.code == 0, outcome.err
    rows = outcome.json["jobs"]
    assert [row["overrides"][-3:-1] for row in rows] == [
        [f"seed={seed}", f"optimizer.lr={lr}"] for seed in (0, 1) for lr in (0.001, 0.01, 0.1)
    ]
    assert {row["status"] for row in rows} == {"completed"}
    sweep = Path(outcome.json["sweep"])
    again = dltrain("resume", str(sweep), "--json")
    assert again.code == 0, again.err
    assert again.json["jobs"] == rows
    assert starts(sweep) == [0, 1, 2, 3, 4, 5]


def test_a_resumed_sweep_ends_as_an_undisturbed_one(dltrain: Command, harm: Harm) -> None:
    """One job fails, one is interrupted in mid-epoch; the table is the same in the end."""
    words = ("-m", *TINY, "launcher=inline", "trainer.save_every=20", "optimizer.lr=0.01,0.02,0.03")
    whole = dltrain(*words, "--json").json["jobs"]
    harm.begun, harm.job = -1, 0
    harm.error = RuntimeError("a defect of the user")
    failed = dltrain(*words, "hydra.sweep.dir=there", "--json")
    assert failed.code == 1
    sweep = Path(failed.json["sweep"])
    assert [row["status"] for row in failed.json["jobs"]] == ["failed", "completed", "completed"]
    assert "a defect of the user" in failed.json["jobs"][0]["reason"]
    first = {path: path.read_bytes() for path in (sweep / "1").rglob("*.json*")}
    harm.begun, harm.job, harm.step = 0, 0, 100  # it continues after step 20
    harm.error = Interrupted(2)
    interrupted = dltrain("resume", "there", "--json")
    assert interrupted.code == 130, interrupted.err
    assert interrupted.json["jobs"][0]["status"] == "interrupted"
    resumed = dltrain("resume", "there", "--json")
    assert resumed.code == 0, resumed.err
    assert figures(resumed.json["jobs"]) == figures(whole)
    assert starts(sweep) == [0, 1, 2, 0, 0]
    assert {path: path.read_bytes() for path in (sweep / "1").rglob("*.json*")} == first
    steps = [one["step"] for one in RunFolder(sweep / "0").read_json(MANIFEST)["resumed"]]
    assert len(steps) == 2
    assert steps[0] >= 20
    assert steps[1] == 100
    other = Path(whole[0]["run"])
    assert (sweep / "0" / METRICS).read_bytes() == (other / METRICS).read_bytes()


def test_an_interrupted_sweep_starts_the_jobs_that_are_left(dltrain: Command, harm: Harm) -> None:
    harm.job, harm.error = 1, Interrupted(15)
    outcome = dltrain("-m", *GRID, "--json")
    assert outcome.code == 143
    sweep = Path(outcome.json["sweep"])
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed", "interrupted"]
    resumed = dltrain("resume", sweep.name, "--json")  # a part of its name
    assert resumed.code == 0, resumed.err
    assert {row["status"] for row in resumed.json["jobs"]} == {"completed"}
    assert starts(sweep) == [0, 1, 1, 2, 3, 4, 5]


def test_the_end_of_a_trial_that_was_not_noted_is_found(dltrain: Command) -> None:
    """The coordinator was killed between the end of a run and the line in the journal."""
    outcome = dltrain("-m", *GRID, "trainer.epochs=1", "--json")
    path = Path(outcome.json["sweep"]) / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    again = dltrain("resume", str(path.parent), "--json")
    assert again.code == 0
    assert figures(again.json["jobs"]) == figures(outcome.json["jobs"])
    assert len(starts(path.parent)) == 6


@pytest.fixture
def begun(dltrain: Command, harm: Harm) -> Path:
    """A sweep whose first job was interrupted."""
    harm.job, harm.error = 0, Interrupted(2)
    outcome = dltrain("-m", *TINY, "launcher=inline", "seed=0,1", "--json")
    assert outcome.code == 130
    return Path(outcome.json["sweep"])


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=0,1,2", "seed: 0,1 -> 0,1,2"),
        ("optimizer.lr=0.5", "optimizer.lr: not set -> 0.5"),
        ("model=cnn", "model: mlp -> cnn"),
        ("sweep.metric=val/loss", "sweep.metric: not set -> val/loss"),
    ],
)
def test_a_changed_space_is_refused_with_the_difference(
    begun: Path, override: str, difference: str, dltrain: Command
) -> None:
    before = (begun / JOURNAL).read_bytes()
    outcome = dltrain("resume", str(begun), override)
    assert outcome.code == 2
    assert difference in outcome.err
    assert (begun / JOURNAL).read_bytes() == before


def test_the_same_name_with_another_space_is_refused(dltrain: Command) -> None:
    words = ("-m", *TINY, "launcher=inline", "trainer.epochs=1", "name=mine", "resume=auto")
    assert dltrain(*words, "seed=0,1").code == 0
    outcome = dltrain(*words, "seed=0,2")
    assert outcome.code == 2
    assert "seed: 0,1 -> 0,2" in outcome.err
    assert dltrain(*words, "seed=0,1").code == 0


def test_options_that_changed_since_are_refused(
    dltrain: Command, harm: Harm, tmp_path: Path
) -> None:
    option = tmp_path / "mine" / "model" / "small.yaml"
    option.parent.mkdir(parents=True)
    content = "# Small\ndefaults:\n  - mlp\nhidden_sizes: [8]\n"
    option.write_text(content)
    harm.job, harm.error = 0, Interrupted(2)
    words = ("model=small", "seed=0,1", "launcher=inline", "callbacks=quiet", "trainer.epochs=1")
    outcome = dltrain("-m", "--config-dir", "mine", *words, "--json")
    sweep = outcome.json["sweep"]
    option.write_text(content.replace("8", "9"))
    refused = dltrain("resume", sweep)
    assert refused.code == 2
    assert "trial 0 (model=small seed=0 callbacks=quiet trainer.epochs=1) now has" in refused.err
    option.write_text(content)
    assert dltrain("resume", sweep).code == 0


def test_values_in_a_file_that_changed_are_refused_with_the_difference(
    dltrain: Command, harm: Harm, tmp_path: Path
) -> None:
    """Otherwise a value would be tried twice, and another one never."""
    option = tmp_path / "mine" / "sweep" / "rates.yaml"
    option.parent.mkdir(parents=True)
    content = "# Rates\ndefaults:\n  - grid\nspace: {optimizer.lr: '1e-3,1e-2'}\n"
    option.write_text(content)
    harm.job, harm.error = 1, Interrupted(2)
    words = ("sweep=rates", *TINY, "launcher=inline", "trainer.epochs=1")
    outcome = dltrain("-m", "--config-dir", "mine", *words, "--json")
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed", "interrupted"]
    sweep = outcome.json["sweep"]
    option.write_text(content.replace("1e-3", "1e-4,1e-3"))
    refused = dltrain("resume", sweep)
    assert refused.code == 2
    assert "sweep.space: {'optimizer.lr': '1e-3,1e-2'} -> " in refused.err
    option.write_text(content)
    assert dltrain("resume", sweep).code == 0


def test_options_that_a_pattern_finds_since_are_refused(
    dltrain: Command, harm: Harm, tmp_path: Path
) -> None:
    """The trial that is done has the first option, so the grid would have that one twice."""
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    content = "# Small\ndefaults:\n  - mlp\nhidden_sizes: [8]\n"
    for name in ("small1", "small2"):
        (folder / f"{name}.yaml").write_text(content.replace("8", name[-1]))
    harm.job, harm.error = 1, Interrupted(2)
    words = ("model=glob(small*)", "launcher=inline", "callbacks=quiet", "trainer.epochs=1")
    outcome = dltrain("-m", "--config-dir", "mine", *words, "--json")
    assert [row["status"] for row in outcome.json["jobs"]] == ["completed", "interrupted"]
    (folder / "small0.yaml").write_text(content)
    refused = dltrain("resume", outcome.json["sweep"])
    assert refused.code == 2
    assert "trial 0 of this sweep has other settings now:" in refused.err
    assert "  model: small1 -> small0" in refused.err
    (folder / "small0.yaml").unlink()
    assert dltrain("resume", outcome.json["sweep"]).code == 0


class Killed(BaseException):
    """Ends the process at once, as SIGKILL does."""


def test_a_sweep_that_was_killed_at_its_beginning_continues(
    dltrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-m", *TINY, "launcher=inline", "trainer.epochs=1", "resume=auto", "seed=0,1")

    def killed(*args: Any, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patches:
        patches.setattr(Journal, "append", killed)
        with pytest.raises(Killed):
            dltrain(*words)
    outcome = dltrain(*words, "--json")
    assert outcome.code == 0, outcome.err
    assert len(list(Path("outputs").glob("*/*_sweep"))) == 1


def test_another_launcher_has_none_of_the_settings_of_the_one_before(
    begun: Path, dltrain: Command
) -> None:
    path = begun / JOURNAL
    path.write_text(
        path.read_text().replace('"launcher=inline"', '"launcher=local", "launcher.jobs=2"')
    )
    outcome = dltrain("resume", str(begun), "launcher=inline")
    assert outcome.code == 0, outcome.err
    assert "launcher.jobs=2 is not read: launcher=inline comes after it" in outcome.out


def test_a_space_in_a_file_cannot_name_code(
    dltrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    option = tmp_path / "mine" / "sweep" / "shared.yaml"
    option.parent.mkdir(parents=True)
    space = "{+plugins: '[evil]', launcher.jobs: 2, +model._target_: evil.Net}"
    option.write_text(f"# Shared\ndefaults:\n  - grid\nspace: {space}\n")
    words = ("sweep=shared", *TINY, "launcher=inline", "seed=0,1")
    outcome = dltrain("-m", "--config-dir", "mine", *words)
    assert outcome.code == 2
    assert re.search(r"sweep\.space\.plugins +a file cannot name plugins", outcome.err)
    assert "sweep.space.launcher.jobs  is a setting of the sweep" in outcome.err
    assert "imported" not in outcome.err


def test_a_sweep_with_plugins_needs_them_again(
    dltrain: Command, harm: Harm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swept_nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, input_shape: tuple[int, ...], num_classes: int):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    harm.job, harm.error = 0, Interrupted(2)
    words = ("plugins=[swept_nets]", "model={_target_: swept_nets.Net}", "seed=0,1")
    rest = ("launcher=inline", "callbacks=quiet", "trainer.epochs=1")
    outcome = dltrain("-m", *words, *rest, "--json")
    assert outcome.code == 130, outcome.err
    refused = dltrain("resume", outcome.json["sweep"])
    assert refused.code == 2
    assert "plugins=[swept_nets]: type it again" in refused.err
    resumed = dltrain("resume", outcome.json["sweep"], "plugins=[swept_nets]")
    assert resumed.code == 0, resumed.err


def test_a_folder_with_another_run_is_not_touched(begun: Path, dltrain: Command) -> None:
    other = dltrain(*TINY, "trainer.epochs=1", "--json").json["run"]
    job = begun / "1"
    Path(other).rename(job)
    before = {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}
    outcome = dltrain("resume", str(begun), "--json")
    assert outcome.code == 1
    assert "holds another run than job 1" in outcome.json["jobs"][1]["reason"]
    after = {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


def test_another_process_that_runs_the_sweep_is_named(begun: Path, dltrain: Command) -> None:
    with RunFolder(begun).locked():
        outcome = dltrain("resume", str(begun))
    assert outcome.code == 2
    assert "is being written by a run that is still going (pid" in outcome.err


def test_damage_is_an_input_error_that_names_the_line(begun: Path, dltrain: Command) -> None:
    path = begun / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "garbage\n", *lines[1:]]))
    outcome = dltrain("resume", str(begun))
    assert outcome.code == 3
    assert f"{path}:2 is not an event of a sweep" in outcome.err


def test_names_of_sweeps(begun: Path, dltrain: Command) -> None:
    fork = dltrain("resume", str(begun), "--fork")
    assert fork.code == 2
    assert "is a sweep" in fork.err
    assert dltrain("resume", str(begun / "0")).code == 0  # a job, by itself
    assert (begun / "0" / CONFIG).is_file()
    second = dltrain("-m", *TINY, "launcher=inline", "trainer.epochs=1", "seed=0,1", "--json")
    several = dltrain("resume", "_sweep")
    assert several.code == 3
    assert "could be any of 2 sweeps" in several.err
    assert second.json["sweep"] in several.err
    done = dltrain("resume", str(begun), "--json")
    assert done.code == 0
    assert len(starts(begun)) == 2  # job 0 finished by itself


def test_a_sweep_setting_without_a_sweep_is_refused(dltrain: Command) -> None:
    for word in ("launcher=inline", "sweep=grid", "sweep.metric=val/loss"):
        outcome = dltrain(*TINY, word)
        assert outcome.code == 2
        assert f"{word} is a setting of sweeps: add -m" in outcome.err


def test_no_run_saves_the_settings_of_its_sweep(begun: Path) -> None:
    text = (begun / "0" / CONFIG).read_text()
    assert not re.search(r"^(launcher|sweep):", text, re.MULTILINE)
    manifest = json.loads((begun / "0" / MANIFEST).read_text())
    assert not {"launcher", "sweep"} & (manifest["choices"].keys() | manifest["config"].keys())


def test_a_journal_cannot_name_code(begun: Path, dltrain: Command, tmp_path: Path) -> None:
    """The overrides of a trial that was changed in the file are not typed by the user."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    path = begun / JOURNAL
    path.write_text(path.read_text().replace('"seed=0"]', '"seed=0", "plugins=[evil]"]'))
    outcome = dltrain("resume", str(begun))
    assert outcome.code in (2, 3)
    assert "plugins=[evil]" in outcome.err or "another configuration" in outcome.err
    assert "imported" not in outcome.err


def test_a_sweep_that_was_moved_has_its_runs_where_they_are(
    begun: Path, dltrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    begun.rename(tmp_path / "elsewhere" / "swept")
    monkeypatch.chdir(tmp_path / "elsewhere")
    outcome = dltrain("resume", "swept", "--json")
    assert outcome.code == 0, outcome.err
    assert [row["run"] for row in outcome.json["jobs"]] == ["swept/0", "swept/1"]
    monkeypatch.chdir(tmp_path)
    again = dltrain("resume", "elsewhere/swept", "--json")
    assert [row["run"] for row in again.json["jobs"]] == ["elsewhere/swept/0", "elsewhere/swept/1"]
    assert (tmp_path / "elsewhere/swept/curves.png").is_file()


def test_settings_of_the_sweep_have_one_value(dltrain: Command) -> None:
    outcome = dltrain("-m", *TINY, "launcher=local", "launcher.jobs=1,2", "sweep=random,tpe")
    assert outcome.code == 2
    assert "launcher.jobs=1,2  is a setting of the sweep: give it one value" in outcome.err
    assert "sweep=random,tpe" in outcome.err


def test_the_runs_of_a_sweep_are_listed(begun: Path, dltrain: Command) -> None:
    outcome = dltrain("runs", str(begun), "--json")
    assert outcome.code == 0
    assert [row["run"] for row in outcome.json["runs"]] == [str(begun / "0")]
