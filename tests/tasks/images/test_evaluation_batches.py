"""Scores of an evaluation do not depend on the batch size."""

from __future__ import annotations

from typing import Any

import adversaries
import pytest
import torch
from torch import Tensor

from dltrain import rng
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.models.autoencoder import Autoencoder
from dltrain.models.detection.faster_rcnn import FasterRCNN
from dltrain.tasks.images.autoencoding import Autoencoding
from dltrain.tasks.noise import InBlocks, normal, uniform

SIZES = (1000, 7, 2, 1)


def data(eval_batch_size: int) -> InMemory:
    return InMemory(
        Synthetic(1, 8, 8, 10, 200, 32),
        16,
        val_fraction=0.4,
        scaling="unit",
        eval_batch_size=eval_batch_size,
    )


def autoencoding(eval_batch_size: int, variational: bool, **settings: Any) -> Any:
    model = Autoencoder(1, (8, 8), (16,), 5, variational=variational)
    optim: Any = lambda *arguments: None  # noqa: E731
    return Autoencoding(data(eval_batch_size), model, optim, 1, **settings)


def adversarial(eval_batch_size: int) -> Any:
    return adversaries.adversarial_task(
        data=data(eval_batch_size), judge=adversaries.small_classifier()
    )


TASKS = {
    "variational": lambda size: autoencoding(size, True),
    "noisy": lambda size: autoencoding(size, False, noise=0.3, masking=0.2),
    "variational, noisy": lambda size: autoencoding(size, True, noise=0.3, loss="cross_entropy"),
    "adversarial": adversarial,
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_sample_gets_the_same_noise_in_every_batch(kind: str) -> None:
    found: list[dict[str, float]] = []
    for size in SIZES:
        rng.seed_all(3)
        task = TASKS[kind](size).eval()
        with torch.no_grad():
            scores = task.evaluate(task.data.val.epoch(0))
        found.append({name: value for name, value in scores.items() if isinstance(value, float)})
    assert len(found[0]) >= 3
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("kind", [normal, uniform])
@pytest.mark.parametrize("width", [1, 3, 16])
def test_noise_does_not_depend_on_the_sizes_of_the_draws(kind: Any, width: int) -> None:
    def rows(*counts: int) -> Tensor:
        draw = InBlocks(kind(rng.keyed(1)))
        return torch.cat([draw((count, width)) for count in counts])

    whole = rows(200)
    assert whole.shape == (200, width)
    assert len(whole.unique()) > 0.99 * whole.numel()
    for counts in ((64, 136), (1, 63, 65, 71), (100, 0, 100), (1,) * 200):
        assert torch.equal(rows(*counts), whole)


def test_the_losses_of_a_detector_are_means_over_images() -> None:
    torch.manual_seed(0)
    model = FasterRCNN(
        1, (64, 64), 3, channels=(4, 4, 4, 4), pyramid_channels=8, head_size=8
    ).eval()
    images = torch.randn(5, 1, 64, 64)
    targets = torch.full((5, 2, 5), -1.0)
    targets[0, 0] = torch.tensor([4.0, 4, 30, 30, 0])
    targets[1, :2] = torch.tensor([[4.0, 4, 60, 60, 1], [1, 30, 20, 50, 2]])
    targets[4, 0] = torch.tensor([10.0, 4, 20, 30, 2])
    found = []
    for size in (5, 2, 1):
        torch.manual_seed(0)
        with torch.no_grad():
            parts = [
                model(x, y)[0] for x, y in zip(images.split(size), targets.split(size), strict=True)
            ]
        sizes = torch.tensor([len(part) for part in images.split(size)])
        found.append(
            {
                name: float((torch.stack([p[name] for p in parts]) * sizes).sum() / 5)
                for name in parts[0]
            }
        )
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)
