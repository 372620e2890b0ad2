"""Scores and predictions of adversarial learning: distance, diversity, samples."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adversaries import (
    LOSSES,
    adversarial_task,
    batch,
    optim_of,
    probability,
    small_classifier,
    small_gan,
)
from PIL import Image as Picture
from torch import Tensor

from dltrain.data.fake import Fake
from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.models.images.dcgan import DCGAN
from dltrain.models.images.gan import GAN
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.tasks.images import adversarial
from dltrain.tasks.images.adversarial import Adversarial
from dltrain.types import Spec

# --- Evaluation


def scripted(task: Adversarial, images: Iterator[Tensor]) -> Adversarial:
    """Return `task` with a generator that returns `images` (B, C, H, W)."""
    task.model.generate = lambda noise, classes=None: next(images)
    return task.eval()


def digits_task(**settings: Any) -> Adversarial:
    """Return a task on digits after a few steps of its evaluation classifier."""
    task = adversarial_task(
        data=InMemory(Digits(), batch_size=64), judge=small_classifier(), **settings
    )
    learn = optim_of(task.judge, lr=0.1)
    for number in range(3):
        for samples in task.data.train.epoch(number):
            task.classifier_step(samples, learn)
    return task.eval()


def evaluated(task: Adversarial) -> dict[str, Any]:
    with torch.no_grad():
        return task.evaluate(task.data.val.epoch(0))


def test_real_images_have_distance_0_and_diversity_1() -> None:
    task = digits_task()
    batches = [task.centered(inputs) for inputs, _ in task.data.val.epoch(0)]
    scores = evaluated(scripted(task, iter([*batches, batches[0]])))
    assert scores["distance"] == pytest.approx(0, abs=1e-4)
    assert scores["diversity"] == pytest.approx(1, rel=1e-5)
    assert 0.02 < scores["least_share"] <= 0.1
    assert scores["real_score"] == pytest.approx(scores["fake_score"])


def test_a_collapsed_generator_has_no_diversity() -> None:
    task = digits_task()
    sizes = [*(len(inputs) for inputs, _ in task.data.val.epoch(0)), 64]
    image = task.centered(next(task.data.val.epoch(0))[0])[:1]
    scores = evaluated(scripted(task, (image.expand(n, -1, -1, -1) for n in sizes)))
    assert scores["diversity"] == pytest.approx(0, abs=1e-6)
    assert scores["least_share"] == 0
    assert scores["distance"] > 1
    shares = scores["shares"].values
    assert shares.sum(0).tolist() == pytest.approx([1, 1])
    assert sorted(shares[:, 1].tolist()) == [0.0] * 9 + [1.0]


def test_half_the_contrast_is_a_quarter_of_the_diversity_of_pixels() -> None:
    """Without an evaluation classifier the features are pixels."""
    task = adversarial_task(data=InMemory(Digits(), batch_size=64)).eval()
    batches = [task.centered(inputs) for inputs, _ in task.data.val.epoch(0)]
    scores = evaluated(scripted(task, iter([*(0.5 * b for b in batches), batches[0]])))
    assert scores["diversity"] == pytest.approx(0.25, rel=1e-5)


def test_scores_are_mean_probabilities_of_being_real() -> None:
    """A Wasserstein critic has none: its scores are the plain outputs."""
    images, probabilities = torch.rand(64, 1, 8, 8) * 2 - 1, {}
    for loss in LOSSES:
        task = scripted(adversarial_task(loss=loss), itertools.repeat(images))
        inputs, classes = batch()
        task.model.generate = lambda noise, classes=None: images[: len(noise)]
        with torch.no_grad():
            scores = task.evaluate(iter([(inputs, classes)]))
            real, fake = task.model(task.centered(inputs)), task.model(images[:8])
        real, fake = (x if loss == "wasserstein" else probability(x) for x in (real, fake))
        assert scores["real_score"] == pytest.approx(float(real.mean()), rel=1e-5)
        assert scores["fake_score"] == pytest.approx(float(fake.mean()), rel=1e-5)
        probabilities[loss] = scores["real_score"]
    assert probabilities["wasserstein"] != pytest.approx(probabilities["hinge"], rel=1e-3)


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_samples_are_the_same_for_the_same_weights(conditional: bool) -> None:
    """Whatever was drawn before; in 0..1, of a conditional generator all classes in turn."""
    task = adversarial_task(small_gan(conditional=conditional)).eval()
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        scores.append(evaluated(task))
    first, again = (s.pop("samples").pixels for s in scores)
    assert torch.equal(first, again)
    assert scores[0] == scores[1]
    assert first.shape == (64, 1, 8, 8)
    assert first.min() >= 0
    assert first.max() <= 1
    classes = torch.arange(64) % 10 if conditional else None
    with torch.no_grad():
        torch.testing.assert_close(first, task.model.generate(task.noise, classes) / 2 + 0.5)
        for p in task.model.generator.parameters():
            p.mul_(1.1)
    assert not torch.equal(first, evaluated(task)["samples"].pixels)


def test_without_an_evaluation_classifier_there_is_no_distance_and_nothing_is_watched() -> None:
    """Except for a metric that the user names; the data needs no classes then."""
    task = adversarial_task()
    (stage,) = task.stages()
    assert (stage.name, stage.watch) == ("adversarial", "")
    assert evaluated(task.eval()).keys() == {"real_score", "fake_score", "diversity", "samples"}
    assert [s.watch for s in adversarial_task(watch="val/diversity", mode="max").stages()] == [
        "val/diversity"
    ]
    bare = Spec((1, 8, 8), (), 60, 20, target_names=("depth",))
    assert evaluated(adversarial_task(data=Fake(bare, 8, 0)).eval())["diversity"] > 0


def test_an_empty_split_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="there is nothing to evaluate"):
        adversarial_task().evaluate(iter(()))


def test_the_networks_get_pixels_in_minus_one_to_one_for_any_scaling() -> None:
    stored = Digits().read()["train"][0].float() / 255 * 2 - 1
    for scaling in ("standardize", "unit"):
        task = adversarial_task(data=InMemory(Digits(), batch_size=64, scaling=scaling))
        seen = torch.cat([task.centered(inputs) for inputs, _ in task.data.train.epoch(0)])
        assert float(seen.min()) == pytest.approx(-1, abs=1e-5)
        assert float(seen.max()) == pytest.approx(1, abs=1e-5)
        assert float(seen.mean()) == pytest.approx(float(stored.mean()), abs=0.01)


# --- Predictions


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_predictions_are_one_probability_for_each_image(conditional: bool) -> None:
    """A conditional discriminator's is the highest over the classes."""
    task = adversarial_task(small_gan(conditional=conditional)).eval()
    inputs = batch(5)[0]
    with torch.no_grad():
        answers = task.prediction_rows(task.predict(inputs))
        told = [torch.full((5,), c) for c in range(10)] if conditional else [None]
        expected = torch.stack(
            [probability(task.model(task.centered(inputs), c)) for c in told]
        ).amax(0)
    assert [list(answer) for answer in answers] == [["real"]] * 5
    assert [answer["real"] for answer in answers] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("conditional", ["false", "true"])
def test_predict_scores_image_files(conditional: str, dltrain, tmp_path: Path) -> None:
    sizes = (
        "model.generator_sizes=[16]",
        "model.discriminator_sizes=[16]",
        f"model.conditional={conditional}",
    )
    trained = dltrain(
        "dataset=digits", "model=gan", *sizes, "trainer.steps=90", "callbacks=quiet", "--json"
    )
    assert trained.code == 0, trained.err
    inputs = Digits().read()["test"][0]
    for i in range(3):
        Picture.fromarray(inputs[i, 0].numpy()).save(tmp_path / f"{i}.png")
    outcome = dltrain(
        "predict", trained.json["run"], *(str(tmp_path / f"{i}.png") for i in range(3)), "--json"
    )
    assert outcome.code == 0, outcome.err
    found = [row["real"] for row in outcome.json["rows"]]
    assert len(found) == len(set(found)) == 3
    assert all(0 < p < 1 for p in found)


# --- Training


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (GAN, {"norm": "batch"}),
        (GAN, {"norm": "batch", "conditional": True}),
        (DCGAN, {"channels": (16, 8)}),
    ],
    ids=["gan", "conditional gan", "dcgan"],
)
def test_the_distance_falls_on_digits(model: type[Any], settings: dict[str, Any]) -> None:
    """To a fifth of the initial distance, in a few hundred steps; and the samples differ."""
    torch.manual_seed(0)
    sizes = {"generator_sizes": (64,), "discriminator_sizes": (64,)} if model is GAN else {}
    network = model(1, (8, 8), 10, latent_size=8, **sizes, **settings)

    def optim(m, *settings, **more):
        return Optim(m, functools.partial(adam, lr=0.002, beta1=0.5))

    task = digits_task(model=network, optim=optim)
    before = evaluated(task)["distance"]
    stage = list(task.stages())[1]
    torch.manual_seed(0)
    task.train()
    for number in range(8):
        for samples in task.data.train.epoch(number):
            stage.step(samples)
    scores = evaluated(task.eval())
    print("DIST", before, {k: v for k, v in scores.items() if isinstance(v, float)})
    assert scores["distance"] < before / 5
    assert scores["diversity"] > 0.2


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
def test_tracing_a_discriminator_of_many_classes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adversarial, "MAX_TRACED_CLASSES", 9)
    task, inputs = adversarial_task(small_gan(conditional=True)).eval(), batch(2)[0]
    assert len(task.predict(inputs)) == 2
    with pytest.raises(ValueError, match="once for each class"):
        torch.jit.trace(task, inputs, check_trace=False)
    torch.jit.trace(
        adversarial_task(small_gan(conditional=False)).eval(), inputs, check_trace=False
    )
