"""Results of runs as hashes to compare, and what a crash or a download left in a folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dltrain.files import OLD, TEMPORARY
from dltrain.runs.checkpoint import Store, load
from dltrain.runs.folder import CHECKPOINTS, METRICS, RESULTS

SAVE_EVERY = 4
SETTINGS = (  # of a run of 44 steps with everything in it that has a state, in under a second
    *(
        "dataset=digits",
        "dataset.batch_size=128",
        "model=mlp",
        "regularization=[dropout,ema]",
        "callbacks.tensorboard=null",
    ),
    *(f"trainer.save_every={SAVE_EVERY}", "trainer.log_every=1", "trainer.epochs=4"),
    *("checkpoints.keep=2", "checkpoints.every=2"),
)


def feed(digest: Any, value: Any) -> None:
    """All of `value`, to the last bit."""
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        digest.update(
            value.detach().contiguous().flatten().view(-1).numpy().tobytes()
            if value.numel()
            else b""
        )
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key!r}: ".encode())
            feed(digest, value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            feed(digest, item)
    else:
        digest.update(repr(value).encode())
    digest.update(b";")


def sha256(value: Any) -> str:
    digest = hashlib.sha256()
    feed(digest, value)
    return digest.hexdigest()


def end_of(run: Path) -> dict[str, str]:
    """Return hashes of everything in which an interrupted run has to equal a whole one."""
    store = Store(run / CHECKPOINTS)
    state = load(store.steps()[-1])
    clocks = ("timer", "tensorboard")  # what is another every time, and what not every run has
    callbacks = {
        name: value for name, value in state.pop("callbacks").items() if name not in clocks
    }
    results = json.loads((run / RESULTS).read_text())
    return {
        **{
            name: sha256(value) for name, value in state.items()
        },  # weights, optimizers with averages, generators, place
        **{f"callbacks.{name}": sha256(value) for name, value in callbacks.items()},
        "kept epochs": str(sorted({saved.step for saved in store.saved() if saved.kept})),
        "best ones": str([saved.step for saved in store.ranked()[:2]]),
        "second best": pointed(store.folder / "best-2"),
        METRICS: hashlib.sha256((run / METRICS).read_bytes()).hexdigest(),
        "scores": sha256(
            {name: results[name] for name in ("status", "metrics", "best", "epochs", "steps")}
        ),
    }


@dataclass
class Whole:
    """The uninterrupted run: what it came to, and how long it takes."""

    end: dict[str, str]
    seconds: float


def pointed(pointer: Path) -> str:
    """Return the step of the checkpoint that a pointer names; "" without that pointer."""
    return pointer.read_text().partition(".")[0] if pointer.exists() else ""


def differences(run: Path, whole: dict[str, str]) -> str:
    """The parts of a run's end that are not as those of the uninterrupted one."""
    try:
        end = end_of(run)
    except Exception as e:
        return f"its end cannot be read: {type(e).__name__}: {e}"
    return ", ".join(name for name in whole.keys() | end.keys() if whole.get(name) != end.get(name))


def runs_in(cwd: Path) -> list[Path]:
    return sorted(
        path for path in cwd.glob("outputs/*/*") if path.is_dir() and not path.name.startswith(".")
    )


def leftovers(cwd: Path) -> list[str]:
    """Temporaries of writers that are gone."""
    return [str(p.relative_to(cwd)) for p in cwd.rglob(".*") if p.name.startswith((TEMPORARY, OLD))]


def steps_logged(run: Path) -> list[int]:
    """The steps of the whole lines of metrics.jsonl that were written while training."""
    if not (run / METRICS).exists():
        return []
    lines = (run / METRICS).read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record["step"] for record in records if record["split"] == "train"]


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1] if output.strip() else "no output"


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".download.lock"}
