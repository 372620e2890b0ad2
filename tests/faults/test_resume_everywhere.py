"""Resumed from every step of two epochs, a run ends as if it had never stopped, to the last bit."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from states import differences, end_of, runs_in, sha256
from toys import TwoStages

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.cli import main
from dltrain.engine import Callback, Engine, Resume
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, commit
from dltrain.runs.folder import CHECKPOINTS, RESULTS

DATA = ("in memory", "1 thread", "2 threads")
SYSTEMS = [
    (data, accumulate, precision)
    for data in DATA
    for accumulate in (1, 3)
    for precision in ("fp32", "bf16")
]


@pytest.fixture(autouse=True)
def keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every checkpoint, and do not wait for the disk: no machine is killed here."""
    monkeypatch.setattr("dltrain.callbacks.checkpoint.KEEP", 10**6)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def arguments(data: str, accumulate: int, precision: str, pictures: Path) -> tuple[str, ...]:
    source = ("memory=true",) if data == "in memory" else ("memory=false", f"workers={data[0]}")
    return (
        *(
            "dataset=image_folder",
            f"dataset.path={pictures}",
            "dataset.channels=1",
            "dataset.batch_size=8",
        ),
        *(f"dataset.{setting}" for setting in source),
        *(
            "model=mlp",
            "regularization=[dropout,ema]",
            "preprocessing=[flip,rand_augment]",
            "callbacks.tensorboard=null",
        ),
        *("dataset.balance=sampler", "callbacks.explain=null"),
        *(f"trainer.accumulate={accumulate}", f"device.precision={precision}", "schedule=onecycle"),
        *("trainer.epochs=2", "trainer.save_every=1", "trainer.log_every=1"),
        *(
            ("trainer.watch=val/loss", "trainer.mode=max") if accumulate > 1 else ()
        ),  # the first evaluation is the best
    )


def without_newer(run: Path, folder: Path, copy: Path) -> None:
    """Return a copy of `run` as it was when `folder` was its newest checkpoint, logs apart."""
    shutil.copytree(run, copy)
    (copy / RESULTS).unlink()
    for later in (copy / CHECKPOINTS).iterdir():
        if later.is_file() or later.name.startswith("stage-") or later.name > folder.name:
            shutil.rmtree(later) if later.is_dir() else later.unlink()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: " ".join(map(str, system)))
def test_from_every_step(
    system: tuple[str, int, str], pictures: Path, full: bool, tmp_path: Path, capfd: Any
) -> None:
    """Every saved state is resumed: within epochs and accumulations, around evaluations."""
    number = SYSTEMS.index(system)
    if number % 3 and not full:
        pytest.skip("the full form")
    assert main(list(arguments(*system, pictures))) == 0
    run = runs_in(tmp_path)[0]
    whole = end_of(run)
    saved = Store(run / CHECKPOINTS).steps()
    chosen = saved if full else saved[number % 5 :: 5]
    failed = []
    for folder in chosen:
        copy = tmp_path / "copy"
        without_newer(run, folder, copy)
        capfd.readouterr()
        code = main(["resume", str(copy)])
        said = capfd.readouterr().err
        different = differences(copy, whole)
        if code or different:
            failed.append(
                f"from {folder.name}: exit {code}, other than uninterrupted: {different} {said}"
            )
        shutil.rmtree(copy)
    with capfd.disabled():
        print(
            f"resume at every step, {', '.join(map(str, system))}: {len(chosen)} of {len(saved)}: "
            f"{len(failed)} failed"
        )
    assert chosen
    assert not failed, "\n".join(failed)


def test_slow_weights_and_kernels_of_the_data_are_resumed(pictures: Path, tmp_path: Path) -> None:
    """The parts of experiment=cifar10_fast: whitening, Lookahead, alternating flips."""
    choices = (
        "experiment=cifar10_fast",
        "dataset=image_folder",
        f"dataset.path={pictures}",
        "dataset.batch_size=8",
        "model.width_factor=0.1",
        "optimizer.lr=1.0",
        "regularization.lookahead.every=3",
        "device.precision=fp32",
        "trainer.steps=null",
        "callbacks=quiet",
        "trainer.epochs=2",
        "trainer.save_every=1",
        "trainer.log_every=1",
    )
    assert main(list(choices)) == 0
    run = runs_in(tmp_path)[0]
    whole = end_of(run)
    saved = Store(run / CHECKPOINTS).steps()
    assert len(saved) > 6
    for folder in saved[1::4]:
        copy = tmp_path / "copy"
        without_newer(run, folder, copy)
        assert main(["resume", str(copy)]) == 0
        assert differences(copy, whole) == "", folder.name
        shutil.rmtree(copy)


@pytest.mark.parametrize(("kind", "size"), [("webdataset", "20KB"), ("parquet", "2KB")])
def test_a_run_on_shards_is_resumed_in_any_window(
    kind: str, size: str, pictures: Path, tmp_path: Path
) -> None:
    source = ("dataset=image_folder", f"dataset.path={pictures}")
    packing = ("--out", "packed", "--format", kind, "--shard-size", size)
    assert main(["pack", *source, *packing]) == 0
    assert len(list(Path("packed").glob("train-*"))) > 4
    choices = (
        "dataset=shards",
        "dataset.path=packed",
        "dataset.shuffle_shards=2",
        "dataset.batch_size=8",
        "model=mlp",
        "preprocessing=[flip,rand_augment]",
        "callbacks=quiet",
        "trainer.epochs=2",
        "trainer.save_every=1",
        "trainer.log_every=1",
    )
    assert main(list(choices)) == 0
    run = runs_in(tmp_path)[0]
    whole = end_of(run)
    saved = Store(run / CHECKPOINTS).steps()
    assert len(saved) > 6
    for folder in saved[1::4]:
        copy = tmp_path / "copy"
        without_newer(run, folder, copy)
        assert main(["resume", str(copy)]) == 0
        assert differences(copy, whole) == "", folder.name
        shutil.rmtree(copy)


def test_the_best_is_found_again_however_slow_the_disk(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation at a step that is still being saved gets a folder of its own."""

    def slowly(*args: Any) -> None:
        time.sleep(0.1)
        commit(*args)

    monkeypatch.setattr("dltrain.callbacks.checkpoint.commit", slowly)
    assert main([*arguments("in memory", 3, "fp32", pictures), "trainer.save_every=6"]) == 0
    run = runs_in(tmp_path)[0]
    whole = end_of(run)
    store = Store(run / CHECKPOINTS)
    before, best, *_ = store.steps()
    assert store.pointed("best") == store.derived("best") == best
    assert checkpoint.load(before)["step"] == checkpoint.load(best)["step"] == 6
    without_newer(run, store.steps()[2], tmp_path / "copy")
    assert main(["resume", str(tmp_path / "copy")]) == 0
    assert differences(tmp_path / "copy", whole) == ""


def test_from_every_step_of_two_stages(full: bool, tmp_path: Path, capfd: Any) -> None:
    """In the second stage the first is passed with the state that it ended in."""

    def run(folder: Path, resume: Resume | None = None) -> tuple[Engine, list[str]]:
        rng.seed_all(3)
        saver, seen = Checkpoint(Store(folder)), []

        class EveryStep(Callback):
            def step_end(self, engine: Engine) -> None:
                seen.append(f"{engine.stage.name} {engine.step} {sha256(engine.metrics)}")
                if resume is None:
                    saver.save(engine)

        engine = Engine([EveryStep(), saver])
        engine.fit(TwoStages(), resume)
        return engine, seen

    whole, seen = run(tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, failed = store.stage_ends(), []
    states = [checkpoint.load(folder) for folder in store.steps()]
    for number, state in enumerate(states):
        before = {index: end for index, end in ends.items() if index < state["index"]}
        engine, again = run(tmp_path / str(number), Resume(state, before))
        if again != seen[state["step"] :] or sha256(engine.task.state_dict()) != sha256(
            whole.task.state_dict()
        ):
            failed.append(f"from step {state['step']}")
        if not torch.equal(engine.state_dict()["rng"]["torch"], whole.state_dict()["rng"]["torch"]):
            failed.append(f"generators from step {state['step']}")
    with capfd.disabled():
        print(f"resume at every step of two stages: {len(states)}: {len(failed)} failed")
    assert {state["index"] for state in states} == {0, 1}
    assert not failed, "\n".join(failed)
