"""`dltrain resume`: from where it can, what a change means, forks, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dltrain.callbacks import checkpoint as saving
from dltrain.config.changes import HARMLESS, changes
from dltrain.runs.checkpoint import Store, load

TINY = (
    "dataset=synthetic",
    "model=mlp",
    "model.hidden_sizes=[8]",
    "dataset.source.train_samples=200",
    "dataset.batch_size=18",
)
STEPPED = (
    *TINY,
    "trainer.epochs=3",
    "trainer.save_every=4",
    "callbacks=quiet",
    "regularization=[dropout,ema]",
)


def folder_of(outcome) -> Path:
    assert outcome.code == 0, outcome.err + outcome.out
    return Path(outcome.json["run"])


def steps_of(folder: Path) -> list[str]:
    return [path.name for path in Store(folder / "checkpoints").steps()]


def end_of(folder: Path) -> dict:
    state = load(Store(folder / "checkpoints").steps()[-1])
    return {
        "task": state["task"],
        "averages": state["optims"][0]["averages"],
        "rng": state["rng"]["torch"],
    }


def assert_same_end(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    a, b = end_of(one), end_of(other)
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.fixture
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "KEEP", 1000)


def as_if_killed(folder: Path, after: str | None) -> None:
    """Restore the run as it was when `after` was its newest checkpoint (None: it had none)."""
    for path in Store(folder / "checkpoints").steps():
        if after is None or path.name > after:
            shutil.rmtree(path)
    for name in ("last", "best"):
        (folder / "checkpoints" / name).unlink(missing_ok=True)
    for path in (folder / "checkpoints").glob("stage-*"):
        shutil.rmtree(path)
    (folder / "results.json").unlink()


@pytest.mark.usefixtures("keep_all")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_from_every_checkpoint_and_before_the_first(accumulate: int, dltrain) -> None:
    """A resumed run equals one without interruption, bit for bit.

    That holds in mid-epoch and within an accumulation window too: from the even checkpoints of one
    run, the odd ones of the other.
    """
    run = (*STEPPED, f"trainer.accumulate={accumulate}", "trainer.log_every=3")
    whole = folder_of(dltrain(*run, "--json"))
    names = steps_of(whole)
    assert len(names) > 5
    for number, name in enumerate([None, *names[accumulate // 2 :: 2]]):
        part = whole.parent / f"part{number}"
        shutil.copytree(whole, part)
        as_if_killed(part, name)
        outcome = dltrain("resume", str(part), "--json")
        assert folder_of(outcome) == part
        assert ("has no checkpoint yet; it starts at step 0" in outcome.out) == (name is None)
        assert_same_end(part, whole)
        manifest = json.loads((part / "manifest.json").read_text())
        assert [record["step"] for record in manifest["resumed"]] == [
            0 if name is None else int(name.partition(".")[0])
        ]


def test_a_run_folder_holds_configuration_and_manifest_from_its_beginning(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first step it can be resumed by name, to the same end."""
    whole = folder_of(dltrain(*STEPPED, "--json"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "dltrain.experiment.session.open_session",
            lambda *a: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert dltrain(*STEPPED).code == 130
    begun = next(folder for folder in Path("outputs").glob("*/*") if folder != whole)
    assert sorted(path.name for path in begun.iterdir()) == [
        ".lock",
        "config.yaml",
        "manifest.json",
    ]
    assert folder_of(dltrain("resume", str(begun), "--json")) == begun
    assert_same_end(begun, whole)


def test_damage_falls_back_in_a_line(dltrain) -> None:
    """To the newest whole checkpoint; the damaged one is set aside, and the end is the same."""
    whole = folder_of(dltrain(*STEPPED, "--json"))
    broken = whole.parent / "broken"
    shutil.copytree(whole, broken)
    (broken / "results.json").unlink()
    newest, before = (
        Store(broken / "checkpoints").steps()[-1],
        Store(broken / "checkpoints").steps()[-2],
    )
    content = bytearray((newest / "state.pt").read_bytes())
    content[len(content) // 2] ^= 16
    (newest / "state.pt").write_bytes(content)
    named = dltrain("resume", str(newest))
    assert (named.code, len(named.err.splitlines())) == (3, 1)
    assert "state.pt is damaged" in named.err
    assert dltrain("evaluate", str(newest)).code == 3
    outcome = dltrain("resume", str(broken), "--json")
    assert folder_of(outcome) == broken
    assert f"{newest.name}/state.pt is damaged" in outcome.out
    assert f"falling back to the checkpoint before: {before.name}" in outcome.out
    assert (newest.parent / f"damaged-{newest.name}").is_dir()
    assert_same_end(broken, whole)


def test_the_effect_of_a_change_is_reported(dltrain) -> None:
    """Harmless, or it changes what follows; how the schedule continues; and it is recorded."""
    folder = folder_of(dltrain(*STEPPED, "schedule=cosine", "--json"))
    outcome = dltrain(
        "resume", "last", "trainer.epochs=6", "trainer.log_every=7", "optimizer.lr=0.01", "--json"
    )
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "trainer.log_every 50 -> 7 harmless" in lines
    assert "trainer.epochs 3 -> 6 changes what follows" in lines
    assert "optimizer.lr 0.001 -> 0.01 changes what follows" in lines
    planned = next(line for line in lines if line.startswith("the schedule now spans"))
    assert planned.startswith("the schedule now spans 60 updates and continues at update 30: ")
    assert planned.endswith(" to 0.005")
    record = json.loads((folder / "manifest.json").read_text())["resumed"]
    assert [r["changed"] for r in record] == [
        {"optimizer.lr": 0.01, "trainer.epochs": 6, "trainer.log_every": 7}
    ]
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 0.01


@pytest.mark.parametrize("key", ["workers", "timeout", "memory", "eval_batch_size"])
def test_how_images_are_read_is_harmless(key: str) -> None:
    saved = {"dataset": {key: 1}, "schedule": {"_target_": "x.Cosine"}}
    later = {"dataset": {key: 2}, "schedule": {"_target_": "x.Cosine"}}
    assert [change.effect for change in changes(saved, later)] == [HARMLESS]


def test_more_epochs_under_a_constant_rate_are_harmless(dltrain) -> None:
    folder_of(dltrain(*STEPPED, "schedule=constant", "--json"))
    outcome = dltrain("resume", "last", "trainer.epochs=4")
    assert "trainer.epochs  3 -> 4  harmless" in outcome.out
    assert "the schedule now spans" not in outcome.out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer=sgd", "optimizer._target_"),
        ("model=cnn", "model._target_"),
        ("model.hidden_sizes=[4]", "model.hidden_sizes"),
        ("regularization=[dropout]", "regularization"),
    ],
)
def test_what_cannot_continue_is_refused(override: str, words: str, dltrain) -> None:
    """With the key, and how to begin again with what fits; the run stays as it is."""
    folder = folder_of(dltrain(*STEPPED, "--json"))
    before = {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    outcome = dltrain("resume", "last", override, "trainer.epochs=6")
    assert outcome.code == 2, outcome.out
    assert words in outcome.err
    assert "init.from=RUN" in outcome.err
    assert {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    } == before


@pytest.mark.usefixtures("keep_all")
def test_a_fork_continues_in_a_new_run(dltrain) -> None:
    """A fork continues from the newest or a named checkpoint and ends as its parent.

    The parent stays as it is, and the fork names it.
    """
    whole = folder_of(dltrain(*STEPPED, "schedule=constant", "--json"))
    longer = folder_of(dltrain(*STEPPED, "schedule=constant", "trainer.epochs=5", "--json"))
    before = {
        path: path.read_bytes()
        for path in whole.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    older = Store(whole / "checkpoints").steps()[2]
    refused = dltrain("resume", str(older), "trainer.epochs=5")
    assert refused.code == 2
    assert "add --fork to continue from it in a new run" in refused.err
    for name, step in ((str(whole), 30), (str(older), int(older.name.partition(".")[0]))):
        fork = folder_of(dltrain("resume", name, "--fork", "trainer.epochs=5", "--json"))
        assert fork not in (whole, longer)
        assert fork.name.endswith("_fork")
        assert_same_end(fork, longer)
        parent = json.loads((fork / "manifest.json").read_text())["parent"]
        assert parent == {"run": str(whole), "step": step}
    assert {
        path: path.read_bytes()
        for path in whole.rglob("*")
        if path.is_file() and path.name != ".lock"
    } == before


@pytest.mark.parametrize(
    ("limits", "more"),
    [
        (("trainer.epochs=2",), "trainer.epochs=4"),
        (("trainer.epochs=2", "trainer.steps=20"), "trainer.epochs=4 trainer.steps=40"),
        (("trainer.epochs=null", "trainer.steps=7"), "trainer.steps=14"),
    ],
)
def test_a_finished_run_says_how_to_extend_it_and_that_works(
    limits: tuple[str, ...], more: str, dltrain
) -> None:
    folder = folder_of(dltrain(*TINY, "callbacks=quiet", *limits, "--json"))
    outcome = dltrain("resume", "last")
    assert outcome.code == 2
    assert f"to train it longer: dltrain resume {folder} {more}" in outcome.err
    assert dltrain("resume", "last", *more.split(), "--json").json["steps"] == int(
        more.split("=")[-1]
    ) * (10 if "steps" not in more else 1)


def test_other_data_is_noticed(dltrain, tmp_path: Path) -> None:
    """The rows that a run was begun with are not those it continues with: said in a line."""
    (tmp_path / "t.csv").write_text(
        "a,b,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(60))
    )
    table = (
        "dataset=tabular",
        f"dataset.path={tmp_path / 't.csv'}",
        "dataset.target=y",
        "model=mlp",
        "callbacks=quiet",
    )
    folder_of(dltrain(*table, "trainer.epochs=1", "--json"))
    same = dltrain("resume", "last", "trainer.epochs=2")
    (tmp_path / "t.csv").write_text(
        "a,b,y\n" + "".join(f"{i},{i % 5},{i % 2}\n" for i in range(60))
    )
    other = dltrain("resume", "last", "trainer.epochs=3")
    assert (same.code, other.code) == (0, 0)
    assert "the data set is not the one" not in same.out
    assert "the data set is not the one that the run began with" in other.out


def test_a_named_checkpoint_is_evaluated(dltrain) -> None:
    folder = folder_of(dltrain(*STEPPED, "--json"))
    first, last = (
        Store(folder / "checkpoints").steps()[0],
        Store(folder / "checkpoints").steps()[-1],
    )
    named = [dltrain("evaluate", str(path), "--json").json for path in (first, last)]
    assert [outcome["checkpoint"] for outcome in named] == [first.name, last.name]


def test_a_secret_of_the_environment_is_in_no_file(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on the screen, nor after a resume, which reads the variable again."""
    monkeypatch.setenv("SECRET_NUMBER", "31415926")
    secret = (
        *TINY,
        "dataset.split_seed='${oc.decode:${oc.env:SECRET_NUMBER}}'",
        "trainer.epochs=1",
    )
    first = dltrain(*secret, "--json")
    folder = folder_of(first)
    second = dltrain("resume", "last", "trainer.epochs=2", "--json")
    assert folder_of(second) == folder
    for path in folder.rglob("*"):
        assert not path.is_file() or b"31415926" not in path.read_bytes(), path
    assert "31415926" not in first.out + first.err + second.out + second.err
    assert (
        yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["split_seed"]
        == "${oc.decode:${oc.env:SECRET_NUMBER}}"
    )
