"""Adversarial learning: which weights a gradient sees, resume, refusals."""

from __future__ import annotations

import copy
import functools
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from adversaries import BF16, LOSSES, adversarial_task, batch, optim_of, small_classifier, small_gan
from torch import Tensor, nn
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.data.fake import Fake
from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.engine import Engine, Resume
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.tasks.images.adversarial import Adversarial, discriminator_loss, generator_loss
from dltrain.types import Spec


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def recorded_gradients(optim: Optim) -> list[list[Tensor]]:
    """Record the gradients that `optim` makes its steps with."""
    found: list[list[Tensor]] = []
    optim.optimizer.register_step_pre_hook(
        lambda *_: found.append([p.grad.clone() for p in optim.params])
    )
    return found


# --- Which weights a gradient sees


def by_hand(
    task: Adversarial, samples: tuple[Tensor, Tensor], precision: Any, lr: float, updated: bool
) -> tuple[list[Tensor], float]:
    """Return the generator's gradient and loss from copies, each in an autocast without a cache."""
    model = copy.deepcopy(task.model)
    real, classes = task.centered(samples[0]), task.condition(samples[1])
    noise = torch.randn(len(real), model.latent_size)
    with precision():
        fake = model.generate(noise, classes).detach()
        loss = discriminator_loss(
            task.loss, model(real, classes).float(), model(fake, classes).float()
        )
    if updated:
        for p, gradient in zip(
            model.discriminator.parameters(),
            torch.autograd.grad(loss, list(model.discriminator.parameters())),
            strict=True,
        ):
            p.data -= lr * gradient
    with precision():
        loss = generator_loss(task.loss, model(model.generate(noise, classes), classes).float())
    return list(torch.autograd.grad(loss, list(model.generator.parameters()))), float(loss.detach())


@pytest.mark.parametrize("precision", [nullcontext, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_the_generator_learns_against_the_updated_discriminator(
    conditional: bool, precision: type[AbstractContextManager[Any]]
) -> None:
    """Also in half precision, where autocast caches copies of the weights before the update."""
    task = adversarial_task(small_gan(conditional=conditional))
    generator_optim, discriminator_optim = (
        optim_of(task.model.generator),
        optim_of(task.model.discriminator),
    )
    rng.seed_all(0)
    expected, loss = by_hand(task, batch(), precision, lr=0.5, updated=True)
    rng.seed_all(0)
    stale, _ = by_hand(task, batch(), precision, lr=0.5, updated=False)
    found = recorded_gradients(generator_optim)
    rng.seed_all(0)
    with precision():
        scores = task.step(batch(), generator_optim, discriminator_optim)
    assert float(scores["loss"]) == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-7)
    size = max(float(g.norm()) for g in expected)
    assert max(float((s - e).norm()) for s, e in zip(stale, expected, strict=True)) > 0.05 * size


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_leaves_no_gradient(loss: Any, conditional: bool) -> None:
    task = adversarial_task(small_gan(conditional=conditional), loss=loss, judge=small_classifier())
    generator_optim, discriminator_optim = (
        optim_of(task.model.generator),
        optim_of(task.model.discriminator),
    )
    before = weights(task.model.generator), weights(task.model.discriminator), weights(task.judge)
    for _ in range(2):
        scores = task.step(batch(), generator_optim, discriminator_optim)
        assert gradients(task) == []
        assert all(value.isfinite() and not value.requires_grad for value in scores.values())
    after = weights(task.model.generator), weights(task.model.discriminator), weights(task.judge)
    moved = [
        any(not torch.equal(a, b) for a, b in zip(x, y, strict=True))
        for x, y in zip(before, after, strict=True)
    ]
    assert moved == [True, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_generator_update_adds_nothing_to_the_discriminators_gradient(loss: Any) -> None:
    """Within an accumulation window each network has the gradient of its own loss alone."""
    held = []
    for discriminator_steps in (1, 2):  # of the first update, the generator's turn and not
        task = adversarial_task(loss=loss, discriminator_steps=discriminator_steps)
        optims = optim_of(task.model.generator, 2), optim_of(task.model.discriminator, 2)
        rng.seed_all(0)
        task.step(batch(), *optims)
        held.append(gradients(task.model.discriminator))
        assert len(gradients(task.model.generator)) == (4 if discriminator_steps == 1 else 0)
    assert len(held[0]) == 4
    torch.testing.assert_close(held[0], held[1], rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["nonsaturating", "least_squares", "hinge"])
def test_two_accumulated_half_batches_equal_one_batch(
    loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, classes = batch()
    noise = torch.randn(8, 4, generator=rng.keyed(6))
    ends = []
    for parts in (1, 2):
        task = adversarial_task(loss=loss)
        optims = optim_of(task.model.generator, parts), optim_of(task.model.discriminator, parts)
        draws = iter(noise.chunk(parts))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *shape, draws=draws, **kwargs: next(draws))
            before = weights(task.model.generator)
            for i, part in enumerate(zip(inputs.chunk(parts), classes.chunk(parts), strict=True)):
                assert [o.updates for o in optims] == [0, 0]
                torch.testing.assert_close(
                    weights(task.model.generator), before, rtol=0, atol=0, msg=f"part {i}"
                )
                task.step(part, *optims)
        assert [o.updates for o in optims] == [1, 1]
        ends.append(weights(task.model.discriminator))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_generator_is_updated_at_every_kth_discriminator_update(
    every: int, accumulate: int
) -> None:
    """At the k-th, not the first; `loss` is logged in those steps alone."""
    task = adversarial_task(discriminator_steps=every)
    optims = (
        optim_of(task.model.generator, accumulate),
        optim_of(task.model.discriminator, accumulate),
    )
    for steps in range(1, 2 * every * accumulate + 1):
        turn = (steps - 1) // accumulate % every == every - 1
        scores = task.step(batch(), *optims)
        assert scores.keys() == {"discriminator_loss", *(["loss"] if turn else [])}
        assert optims[1].updates == steps // accumulate
        assert optims[0].updates == optims[1].updates // every
        assert bool(optims[0].pending) == (turn and bool(steps % accumulate))


def test_each_network_has_an_optimizer_with_its_number_of_updates() -> None:
    """The generator's schedule counts its own updates, a third as many."""
    asked: list[tuple[str, int, nn.Module]] = []

    def optim(modules: nn.Module, steps: int, network: str, *settings: Any, **more: Any) -> Optim:
        asked.append((network, steps, modules))
        return optim_of(modules)

    task = adversarial_task(
        epochs=6, optim=optim, judge=small_classifier(), judge_epochs=2, discriminator_steps=3
    )
    stages = list(task.stages())
    per_epoch = len(task.data.train)
    assert [(name, steps) for name, steps, _ in asked] == [
        ("judge", 2 * per_epoch),
        ("discriminator", 6 * per_epoch),
        ("generator", 2 * per_epoch),
    ]
    networks = [task.judge, task.model.discriminator, task.model.generator]
    assert all(got is network for (*_, got), network in zip(asked, networks, strict=True))
    assert [(s.name, s.epochs, s.watch, s.mode, len(s.optims)) for s in stages] == [
        ("judge", 2, "val/accuracy", "max", 1),
        ("adversarial", 6, "val/distance", "min", 2),
    ]


# --- Resume


def on_digits(accumulate: int) -> Adversarial:
    model = small_gan(norm="batch", discriminator_dropout=0.3, conditional=True)

    def optim(m, *settings, **more):
        return Optim(m, functools.partial(adam, lr=0.01), accumulate=accumulate)

    data = InMemory(Digits(), batch_size=400, eval_batch_size=100)
    return adversarial_task(
        model, data, epochs=2, optim=optim, judge=small_classifier(), discriminator_steps=3
    )


def run(task: Adversarial, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; seeds the generators."""
    rng.seed_all(3)
    saver, history = Checkpoint(Store(folder)), History()
    engine = Engine([history, saver])
    if resume is None:
        engine.listeners["step_end"].append(saver.save)
    saver.store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    engine.fit(task, resume)
    return engine, history


def figures(scores: list[tuple[int, dict[str, Any]]]) -> list[Any]:
    """Return the scores, and the pixels of the samples."""
    return [
        (
            step,
            {
                k: v.pixels.tolist() if k.endswith("samples") else v
                for k, v in found.items()
                if "shares" not in k
            },
        )
        for step, found in scores
    ]


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_bit_identical_from_any_step(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both stages, between generator updates and in an accumulation window.

    Metrics, samples and weights are the same, from the odd steps of one run and the even ones of
    the other.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    whole, history = run(on_digits(accumulate), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends = store.stage_ends()
    states = [checkpoint.load(folder) for folder in store.steps()]
    assert {s["index"] for s in states} == {0, 1}
    turns = [s["optims"][1]["updates"] % 3 for s in states if s["index"] == 1]
    assert set(turns) == {0, 1, 2}
    for number, state in enumerate(states[accumulate % 2 :: 2]):
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(on_digits(accumulate), tmp_path / str(number), Resume(state, before))
        where = f"from step {state['step']}"
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, (
            where
        )
        late = [
            (s, m)
            for s, m in history.scores
            if s > state["step"] or (s == state["step"] and not state["settled"])
        ]
        assert figures(again.scores) == figures(late), where
        for key in ("task", "optims"):
            torch.testing.assert_close(
                whole.state_dict()[key], engine.state_dict()[key], rtol=0, atol=0, msg=where
            )


# --- Refusals


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.latent_size=0"], "model.latent_size=0"),
        (
            ["model=dcgan", "model.channels=[8,8,8,8]"],
            "an image of 8x8 pixels cannot be halved 4 times",
        ),
        (["model=dcgan", "task.loss=wasserstein"], "model.discriminator_norm=layer"),
        (
            ["task.loss=hinge", "task.label_smoothing=0.1"],
            "the hinge loss has no targets that could be smoothed",
        ),
        (["task.label_smoothing=1"], "task.label_smoothing=1"),
        (
            ["model=mlp", "task=adversarial"],
            "this model is not a pair of a generator and a discriminator",
        ),
        (["task.loss=hingee"], "did you mean hinge?"),
        (["dataset=diabetes", "task=adversarial"], "needs images; for a table: mlp"),
        (
            ["task.judge={_target_: dltrain.models.images.gan.GAN}"],
            "expected a sequential classifier",
        ),
        (["task.discriminator_steps=0"], "task.discriminator_steps=0"),
        (["regularization=[mixup]"], "mixup mixes images"),
        (["task=classification"], "this model does not output class logits"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_with_the_reason(
    overrides: list[str], reason: str, dltrain
) -> None:
    chosen = [] if any(o.startswith("dataset=") for o in overrides) else ["dataset=digits"]
    model = [] if any(o.startswith("model=") for o in overrides) else ["model=gan"]
    outcome = dltrain("check", *chosen, *model, *overrides)
    assert outcome.code == 2, outcome.err + outcome.out
    assert reason in outcome.err


def test_an_evaluation_classifier_needs_classes() -> None:
    bare = Spec((1, 8, 8), (), 60, 20, target_names=("depth",))
    with pytest.raises(ValueError, match=r"images with a class each \(task\.judge=null for none\)"):
        adversarial_task(data=Fake(bare, 8, 0), judge=small_classifier())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_wasserstein_dcgan_without_batch_norm_trains(norm: str, dltrain) -> None:
    words = (
        "dataset=digits",
        "model=dcgan",
        "task.loss=wasserstein",
        f"model.discriminator_norm={norm}",
    )
    outcome = dltrain(*words, "model.channels=[8,4]", "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
