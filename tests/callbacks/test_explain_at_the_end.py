"""The pictures at a run's end: their subjects and weights, and failures, which end no run."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.callbacks.explain import Explain
from dltrain.engine import Task
from dltrain.rng import keyed
from dltrain.types import Image, Spec

SPEC = Spec((1, 8, 8), ("a", "b"), 9, 9, mean=(100.0,), std=(50.0,))
PIXELS = torch.rand(20, 1, 8, 8, generator=keyed(0))
SCORES = {
    "val/samples": Image(PIXELS),
    "val/mistakes": Image(PIXELS, tuple(f"mistake {i}" for i in range(20))),
}


class Shown(Task):
    """Keeps what it is asked to explain."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.broken, self.asked, self.averaged, self.modes = broken, [], False, []

    def feature_images(self, inputs: Tensor) -> dict[str, Image]:
        self.modes.append((self.training, torch.is_grad_enabled(), self.averaged))
        return {"filters": Image(inputs)}

    def explain(self, inputs: Tensor) -> Image:
        self.asked.append(inputs)
        if self.broken:
            raise RuntimeError("a network of one's own")
        return Image(
            torch.zeros(len(inputs), 3, 8, 16),
            ("", "no evidence") * (len(inputs) // 2),
            "the method",
            ("a", "b"),
        )


class Silent(Task):
    """Can say nothing of itself."""


def ended(task: Any, scores: dict[str, Any]) -> dict[str, Image]:
    """Return the images that are logged when a run with these last scores ends."""

    @contextmanager
    def averaged() -> Any:
        task.averaged = True
        yield
        task.averaged = False

    shown: dict[str, Image] = {}
    stage = SimpleNamespace(optims=[SimpleNamespace(averaged=averaged)])
    engine: Any = SimpleNamespace(
        task=task, scores=scores, stage=stage, autocast=nullcontext(), move=lambda batch: batch
    )
    log: Any = SimpleNamespace(show=lambda engine, record: shown.update(record))
    data: Any = SimpleNamespace(spec=SPEC)
    Explain(log, data, mistakes=16).run_end(engine)
    return shown


def test_it_shows_the_worst_mistakes_as_the_network_got_them() -> None:
    """Standardized, by averaged weights, in evaluation and without gradients; with the task's own
    words.
    """
    task = Shown()
    shown = ended(task, SCORES)
    assert shown.keys() == {"explain/filters", "explain/mistakes"}
    assert torch.allclose(task.asked[0], (PIXELS[:16] * 255 - 100) / 50)
    assert task.modes == [(False, False, True)]
    assert task.training
    explained = shown["explain/mistakes"]
    assert explained.pixels.shape == (16, 3, 8, 16)
    assert explained.captions[:4] == (
        "mistake 0",
        "mistake 1\nno evidence",
        "mistake 2",
        "mistake 3\nno evidence",
    )
    assert len(explained.captions) == 16
    assert (explained.title, explained.scale) == ("the method", ("a", "b"))


def test_what_goes_wrong_there_does_not_end_the_run() -> None:
    task = Shown(broken=True)
    assert ended(task, SCORES).keys() == {"explain/filters"}
    assert (task.training, task.averaged) == (True, False)


@pytest.mark.parametrize(
    "scores", [{}, {"val/mistakes": Image(PIXELS[:0]), "val/samples": Image(PIXELS[:0])}]
)
def test_without_images_there_is_nothing_to_show(scores: dict[str, Any]) -> None:
    assert ended(Shown(), scores) == {}
    assert ended(Silent(), SCORES) == {}
