"""Deep belief nets and deep autoencoders: greedy stages, what each sees and changes, unrolling, resume, refusals."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import History

from dltrain import build, checkpoint, rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.checkpoint import Store, snapshot
from dltrain.config.compose import compose
from dltrain.data.split import Split
from dltrain.engine import Callback, Engine, Resume
from dltrain.models.rbm import RBM
from dltrain.tasks.deep_autoencoding import DeepAutoencoding
from dltrain.tasks.deep_belief import DeepBelief
from dltrain.tasks.labelled import Labelled
from dltrain.types import Image, Spec

DIGITS = ("dataset=digits", "dataset.scaling=unit", "device=cpu", "callbacks=quiet")
SMALL = ("dataset.batch_size=256", "task.pretrain_epochs=2", "trainer.epochs=2")  # an epoch is six batches
NET = (*DIGITS, "model=deep_belief_net", "model.hidden_sizes=[16,12]")
CODER = (*DIGITS, "model=unrolled_autoencoder", "model.hidden_sizes=[16,12]", "model.code_size=3")
PERSISTENT = "task.method=persistent"
assert_same = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


def net(*overrides: str) -> DeepBelief:
    task = build.build(compose([*NET, *SMALL, *overrides]).config).task
    assert isinstance(task, DeepBelief)
    return task


def coder(*overrides: str) -> DeepAutoencoding:
    task = build.build(compose([*CODER, *SMALL, *overrides]).config).task
    assert isinstance(task, DeepAutoencoding)
    return task


def rbms_of(task: Any) -> list[RBM]:
    return list(task.pretraining.rbms)


def named(state: dict[str, Any], *parts: str) -> dict[str, Any]:
    """What of `state` has one of `parts` in its name."""
    return {name: value for name, value in state.items() if any(part in name for part in parts)}


class Ends(Callback):
    """The scores and the state of the task at the end of every stage, by its name."""

    name = "ends"

    def __init__(self) -> None:
        self.scores: dict[str, dict[str, Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}

    def stage_end(self, engine: Engine) -> None:
        self.scores[engine.stage.name] = dict(engine.scores)
        self.states[engine.stage.name] = snapshot(engine.task.state_dict())


def fitted(task: Any) -> Ends:
    Engine([ends := Ends()]).fit(task)
    return ends


@torch.no_grad()
def scored(task: Any, index: int, batches: Any) -> dict[str, Any]:
    scores: dict[str, Any] = task.pretraining.evaluate(index, batches)
    return scores


# Stages -----------------------------------------------------------------------------------------------------------


def test_pretraining_reconstructs_and_fine_tuning_tells_the_digits_apart() -> None:
    task = net("dataset.batch_size=16", "model.hidden_sizes=[64,32]", "task.pretrain_epochs=4", "trainer.epochs=8")
    before = scored(task, 0, task.data.val.epoch(0))["reconstruction_error"]
    spread = float(torch.cat([images for images, _ in task.data.val.epoch(0)]).var(0).sum())  # about the mean image
    ends = fitted(task)
    assert ends.scores["rbm_1"]["val/reconstruction_error"] < min(0.2 * before, 0.5 * spread)
    assert ends.scores["rbm_2"]["val/reconstruction_error"] < 1
    assert ends.scores["train"]["val/accuracy"] > 0.8


@pytest.mark.parametrize(("make", "layers"), [(net, 2), (coder, 3)])
def test_there_is_a_stage_for_every_layer_and_one_for_all(make: Callable[..., Any], layers: int) -> None:
    pretraining = [f"rbm_{n}" for n in range(1, layers + 1)]
    stages = list(make().stages())
    assert [stage.name for stage in stages] == [*pretraining, "train"]
    assert [(stage.watch, stage.mode) for stage in stages[:-1]] == [("val/reconstruction_error", "min")] * layers
    assert [stage.name for stage in make("task.pretrain_epochs=0").stages()] == ["train"]


def test_the_epochs_and_the_optimizer_of_a_layer_are_its_own() -> None:
    """The last layer of an autoencoder, with normal hidden units, has a third optimizer."""
    rates = ("task.optimizers.rbm.lr=0.25", "task.optimizers.code.lr=0.125", "optimizer.lr=0.5", "schedule=constant")
    stages = list(coder("task.pretrain_epochs=3", "trainer.epochs=5", *rates).stages())
    assert [(stage.epochs, *stage.optims[0].lrs) for stage in stages] == [(3, 0.25), (3, 0.25), (3, 0.125), (5, 0.5)]


def test_a_layer_sees_the_expected_hidden_units_below_it() -> None:
    task = net("model.hidden_sizes=[16,12,8]")
    images, labels = next(task.data.train.epoch(0))
    wanted = images.flatten(1)
    for rbm, stage in zip(rbms_of(task), task.stages(), strict=False):
        for parameter in rbm.parameters():
            nn.init.normal_(parameter)
        seen: list[Tensor] = []
        learn = rbm.contrastive_divergence

        def spy(visible: Tensor, *more: Any, learn: Any = learn, seen: list[Tensor] = seen) -> Any:
            seen.append(visible.clone())
            return learn(visible, *more)

        rbm.contrastive_divergence = spy  # type: ignore[method-assign]
        stage.step((images, labels))
        assert_same(seen, [wanted])
        with torch.no_grad():
            wanted = torch.sigmoid(wanted @ rbm.linear.weight.T + rbm.linear.bias)
    assert wanted.shape == (256, 8)


@pytest.mark.parametrize("options", [(), (PERSISTENT,)], ids=str)
def test_a_stage_changes_its_own_layer_only(options: tuple[str, ...]) -> None:
    """The classifier's changes all but the visible biases, which it has no use for."""
    task = net(*options)
    states = {"": snapshot(task.state_dict()), **fitted(task).states}
    for before, stage, changing in (("", "rbm_1", "rbms.0."), ("rbm_1", "rbm_2", "rbms.1.")):
        for name, value in states[before].items():
            assert torch.equal(value, states[stage][name]) != (changing in name), (stage, name)
    for name, value in states["rbm_2"].items():
        kept = "visible_bias" in name or "chain" in name
        assert torch.equal(value, states["train"][name]) == kept, name


# Persistent chains ------------------------------------------------------------------------------------------------


def test_chains_go_on_from_batch_to_batch_and_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also through the epoch's last batch, of 15 samples where there are 256 chains."""
    begun: list[Tensor] = []
    ended: list[Tensor] = []
    gibbs = RBM.gibbs

    def spy(self: RBM, hidden: Tensor, steps: int) -> Tensor:
        begun.append(hidden.clone())
        visible = gibbs(self, hidden, steps)
        ended.append(self(visible))
        return visible

    task = net(PERSISTENT)
    stage = next(task.stages())
    chain = "model.rbms.0.chain"
    monkeypatch.setattr(RBM, "gibbs", spy)
    begin = task.state_dict()[chain].clone()
    sizes = []
    for images, labels in task.data.train.epoch(0):
        stage.step((images, labels))
        sizes.append(len(images))
        assert torch.equal(task.state_dict()[chain], ended[-1])
    assert sizes == [*[256] * 5, 15]
    assert [len(hidden) for hidden in begun] == [100] * 6
    assert_same(begun, [begin, *ended[:-1]])
    assert not torch.equal(begun[1], begun[0])


def test_without_them_every_batch_begins_with_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Tensor] = []
    gibbs = RBM.gibbs
    monkeypatch.setattr(
        RBM, "gibbs", lambda self, hidden, steps: begun.append(hidden.clone()) or gibbs(self, hidden, steps)
    )
    task = net()
    stage, images = next(task.stages()), next(task.data.train.epoch(0))[0]
    with torch.no_grad():
        wanted = rbms_of(task)[0](images.flatten(1))
    stage.step((images, None))
    assert_same(begun, [wanted])
    assert not named(task.state_dict(), "chain")


# Labels -----------------------------------------------------------------------------------------------------------


def numbers(count: int, batch_size: int = 4, seed: int = 0) -> Split:
    """A training split whose inputs are all different, and whose targets are their negatives."""
    values = torch.arange(float(count))
    return Split(values.view(-1, 1), -values, torch.arange(count), Spec((1,), (), count, 0), batch_size, seed)


def of_epoch(labelled: Labelled, number: int, start: int = 0) -> list[float]:
    batches = list(labelled.epoch(number, start))
    assert all(torch.equal(inputs[:, 0], -targets) for inputs, targets in batches)
    assert len(batches) == len(labelled) - start
    return [float(value) for inputs, _ in batches for value in inputs]


@pytest.mark.parametrize("count", [1, 3, 4, 10, 22])
def test_exactly_so_many_distinct_samples_have_labels(count: int) -> None:
    """The first of the seed's first epoch, in another order in every epoch; from a batch on if that is asked for."""
    labelled = Labelled(numbers(22), count)
    first = [float(value) for inputs, _ in numbers(22).epoch(0) for value in inputs][:count]
    epochs = [of_epoch(labelled, number) for number in range(5)]
    assert labelled.samples == count
    assert {tuple(sorted(epoch)) for epoch in epochs} == {tuple(sorted(first))}
    assert len(set(first)) == count
    assert count == 1 or len({tuple(epoch) for epoch in epochs}) > 1
    assert of_epoch(labelled, 3) == epochs[3]
    assert of_epoch(labelled, 3, len(labelled) - 1) == epochs[3][(len(labelled) - 1) * labelled.batch_size :]


def test_the_seed_says_which() -> None:
    chosen = [sorted(of_epoch(Labelled(numbers(50, seed=seed), 10), 0)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_more_labels_than_samples_are_refused() -> None:
    assert Labelled(numbers(8), 8).samples == 8
    assert Labelled(numbers(8), 9).samples == 8, "all, where there are fewer"


def test_only_fine_tuning_is_short_of_labels() -> None:
    task = net("task.labels=40", "dataset.batch_size=16")
    *pretraining, last = task.stages()
    assert [stage.batches.samples for stage in pretraining] == [1295] * 2
    seen = torch.cat([images for images, _ in last.batches.epoch(1)])
    first = torch.cat([images for images, _ in task.data.train.epoch(0)])[:40]
    assert last.batches.samples == 40
    assert sorted(map(tuple, seen.flatten(1).tolist())) == sorted(map(tuple, first.flatten(1).tolist()))


# Unrolling --------------------------------------------------------------------------------------------------------


def mirrored(task: DeepAutoencoding) -> bool:
    """Whether the decoder is the encoder upside down."""
    layers = [layer for layer in task.model.decoder if isinstance(layer, nn.Linear)]
    pairs = zip(layers, reversed(rbms_of(task)), strict=True)
    return all(
        torch.equal(layer.weight, rbm.linear.weight.T) and torch.equal(layer.bias, rbm.visible_bias)
        for layer, rbm in pairs
    )


def stages_of(task: DeepAutoencoding) -> Iterator[str]:
    """The names of the stages, each trained for one step when the next is asked for."""
    for stage in task.stages():
        yield stage.name
        stage.step(next(task.data.train.epoch(0)))


def test_the_decoder_is_the_mirror_image_of_the_trained_encoder() -> None:
    """When fine-tuning begins, and no longer when it has: it then reconstructs as the stack of RBMs did."""
    task = coder()
    assert [mirrored(task) for _ in stages_of(task)] == [False, False, False, True]
    assert not mirrored(task)
    task.model.unroll()
    images = next(task.data.val.epoch(0))[0]
    with torch.no_grad():
        values = images.flatten(1)
        for rbm in rbms_of(task):
            nn.init.normal_(rbm.visible_bias)
            values = rbm(values)
        for rbm in reversed(rbms_of(task)):
            values = rbm.reconstruct(values)
        task.model.unroll()
        torch.testing.assert_close(task.rebuilt(task.model.encode(images)).flatten(1), values)


def test_without_pretraining_the_decoder_has_weights_of_its_own() -> None:
    task = coder("task.pretrain_epochs=0")
    assert [mirrored(task) for _ in stages_of(task)] == [False]


def test_unrolling_copies() -> None:
    """The decoder's weights are not the encoder's: a change of the one leaves the other."""
    task = coder()
    task.model.unroll()
    with torch.no_grad():
        rbms_of(task)[0].linear.weight.add_(1)
    assert not mirrored(task)


# Resume -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; the generators start at the same place."""
    rng.seed_all(3)
    store, history = Store(folder), History()
    store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    saver = Checkpoint(store)

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()])])
    engine.fit(task, resume)
    return engine, history


def figures(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers and the pictures of an evaluation."""
    return {k: v.pixels if isinstance(v, Image) else v for k, v in scores.items() if isinstance(v, float | Image)}


def everything(engine: Engine) -> dict[str, Any]:
    """Weights, buffers, moments and the generator."""
    state = engine.state_dict()
    return {**{key: state[key] for key in ("task", "optims", "step")}, "rng": state["rng"]["torch"]}


SYSTEMS: dict[str, Callable[[], Any]] = {
    "contrastive divergence": net,
    "persistent": lambda: net(PERSISTENT),
    "autoencoder": coder,
    "persistent autoencoder, accumulating": lambda: coder(PERSISTENT, "trainer.accumulate=4"),
    "few labels": lambda: net("task.labels=700"),
}


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_resume_is_bit_identical_in_every_stage(system: str, tmp_path: Path) -> None:
    """The same metrics, scores, dreams and state from a checkpoint of each stage, every twelfth (six batches, two epochs)."""
    make = SYSTEMS[system]
    whole, history = run(make(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    for number, folder in enumerate(store.steps()[SHIFT[system] :: 12]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(make(), tmp_path / str(number), Resume(state, before))
        where = f"resumed from {folder.name}"
        assert again.metrics == {s: m for s, m in history.metrics.items() if s > state["step"]}, where
        late = [(s, m) for s, m in history.scores if s > state["step"] or (s == state["step"] and not state["settled"])]
        assert_same([(s, figures(m)) for s, m in again.scores], [(s, figures(m)) for s, m in late])
        assert_same(everything(engine), everything(whole))
        resumed.add(state["index"])
    assert resumed == set(range(whole.index + 1))


SHIFT = {system: number for number, system in enumerate(SYSTEMS)}


@pytest.mark.usefixtures("quick_disk")
def test_resumed_within_fine_tuning_the_decoder_is_as_it_was(tmp_path: Path) -> None:
    """Unrolling is done again between the stages, and what was trained since comes over it."""
    run(coder(), tmp_path)
    store = Store(tmp_path)
    state = checkpoint.load(store.steps()[-2])
    assert state["index"] == 3
    task = coder()
    Engine().position_at(task, Resume(state, {i: end for i, end in store.stage_ends().items() if i < 3}))
    assert_same(snapshot(task.state_dict()), state["task"])
    assert not mirrored(task)


# Scores and pictures ----------------------------------------------------------------------------------------------


def test_the_reconstruction_error_is_the_squared_one_of_an_input() -> None:
    """Of a layer's own input, the hidden units of the one below; the mean over batches of unequal sizes."""
    task = net("dataset.eval_batch_size=100")
    for rbm in rbms_of(task):
        for parameter in rbm.parameters():
            nn.init.normal_(parameter)
    first, second = rbms_of(task)
    with torch.no_grad():
        visible = first(torch.cat([images for images, _ in task.data.val.epoch(0)]).flatten(1))
        error = (second.reconstruct(second(visible)) - visible).square().sum() / len(visible)
        energy = second.free_energy(visible).mean()
    scores = scored(task, 1, task.data.val.epoch(0))
    assert scores["reconstruction_error"] == pytest.approx(float(error), rel=1e-5)
    assert scores["free_energy"] == pytest.approx(float(energy), rel=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_gap_in_free_energy_is_nothing_where_the_data_is_the_training_data(layer: int) -> None:
    """And far from nothing for noise, which the layers were not trained on."""
    task = coder()
    fitted(task)
    same = scored(task, layer, task.data.train.epoch(7))
    assert same["free_energy_gap"] == pytest.approx(0, abs=1e-4)
    noise = torch.rand(200, 1, 8, 8, generator=rng.keyed(0))
    other = scored(task, layer, [(noise, None)])
    assert other["free_energy_gap"] == pytest.approx(other["free_energy"] - same["free_energy"], abs=1e-4)
    assert abs(other["free_energy_gap"]) > 0.01


GAUSSIAN = ("model.visible_units=gaussian", "dataset.scaling=standardize")


@pytest.mark.parametrize("task", [net, lambda: net(*GAUSSIAN), coder], ids=["binary", "gaussian", "autoencoder"])
def test_pictures_are_images_of_the_data(task: Callable[[], Any]) -> None:
    made = task()
    for index, rbm in enumerate(rbms_of(made)):
        scores = scored(made, index, made.data.val.epoch(0))
        pictures = {name: value.pixels for name, value in scores.items() if isinstance(value, Image)}
        shapes = {name: tuple(pixels.shape) for name, pixels in pictures.items()}
        assert shapes == {"filters": (rbm.linear.out_features, 1, 8, 8), "dreams": (64, 1, 8, 8)}
        for name, pixels in pictures.items():
            assert 0 <= pixels.min() < pixels.max() <= 1, name


def test_a_filter_is_what_the_unit_weighs_of_an_image_through_the_layers_below() -> None:
    """From its lowest weight in black to its highest in white."""
    task = net()
    first, second = (rbm.linear.weight.detach() for rbm in rbms_of(task))
    for index, weights in ((0, first), (1, second @ first)):
        filters = scored(task, index, task.data.val.epoch(0))["filters"].pixels.flatten(1)
        for found, row in zip(filters, weights, strict=True):
            torch.testing.assert_close(found, (row - row.min()) / (row.max() - row.min()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("options", "inverse"), [((), torch.logit), (GAUSSIAN, lambda x: (255 * x - 77.7) / 95.8)])
def test_dreams_are_in_the_unit_of_pixels(options: tuple[str, ...], inverse: Callable[[Tensor], Tensor]) -> None:
    """Without weights the bias alone is dreamt of, here a ramp; also under a second layer."""
    task, ramp = net(*options), torch.linspace(0.1, 0.9, 64)
    with torch.no_grad():
        for rbm in rbms_of(task):
            rbm.linear.weight.zero_()
        rbms_of(task)[0].visible_bias.copy_(inverse(ramp))
    for index in (0, 1):
        dreams = scored(task, index, task.data.val.epoch(0))["dreams"].pixels
        torch.testing.assert_close(dreams, ramp.view(1, 1, 8, 8).expand(64, 1, 8, 8), rtol=0, atol=1e-5)


def test_data_other_than_images_has_figures_only() -> None:
    overrides = ("dataset=wine", "device=cpu", "model=deep_belief_net", "model.hidden_sizes=[4]", *GAUSSIAN[:1])
    task = build.build(compose(overrides).config).task
    found = scored(task, 0, task.data.val.epoch(0))  # type: ignore[attr-defined]
    assert {name: type(value) for name, value in found.items()} == dict.fromkeys(
        ("reconstruction_error", "free_energy", "free_energy_gap"), float
    )


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["dataset.scaling=standardize"], "dataset.scaling=unit brings them into 0..1"),
        (["model.hidden_sizes=[]"], "a deep belief net has at least one hidden layer"),
        (["model=mlp", "task=deep_belief"], "this model is no stack of RBMs"),
        (["task.optimizers.rbm.lr=-1"], "expected a number > 0, got -1"),
        (["task.optimizers.rbmm={}"], "did you mean task.optimizers.rbm?"),
        (["task.gibbs_steps=0"], "expected a whole number > 0, got 0"),
        (["task.labels=0"], "expected a whole number > 0 or null, got 0"),
        (["task.pretrain_epochs=-1"], "expected a whole number >= 0, got -1"),
        (["task.method=exact"], "task.method=exact"),
        (["model.visible_units=ternary"], "model.visible_units=ternary"),
        (["model=unrolled_autoencoder", "dataset.scaling=standardize"], "dataset.scaling=unit brings them into 0..1"),
        (["model=autoencoder", "task=deep_autoencoding"], "model=unrolled_autoencoder is"),
        (["model=unrolled_autoencoder", "task=deep_belief"], "this model gives no logits of classes"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_reason(overrides: list[str], reason: str, dltrain) -> None:
    base = {"dataset": "digits", "dataset.scaling": "unit", "model": "deep_belief_net"}
    keys = {override.partition("=")[0] for override in overrides}
    outcome = dltrain(*(f"{key}={value}" for key, value in base.items() if key not in keys), *overrides)
    assert outcome.code == 2, outcome.err
    assert reason in outcome.err
    assert not Path("outputs").exists()


def test_a_run_with_few_labels_and_chains_answers(dltrain) -> None:
    """Though what predict and check build it over are fakes of other sizes."""
    run = dltrain(*NET, *SMALL, PERSISTENT, "task.labels=100", "callbacks=quiet", "--json").json["run"]
    outcome = dltrain("predict", run, "split=test", "--out", "answers.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["predicted"] == 359
    assert dltrain("check", *NET, "task.pretrain_epochs=0", "task.labels=100").code == 0


def test_a_layer_that_diverges_ends_the_run_as_diverged(dltrain) -> None:
    outcome = dltrain(*NET, *SMALL, "task.optimizers.rbm.lr=1e30", "trainer.log_every=1", "callbacks=quiet")
    assert outcome.code == 4, outcome.err
    assert "train/loss is" in outcome.err


def test_a_plateau_is_of_each_stages_own_metric() -> None:
    """The layers' error is better where it is less, the classifier's accuracy where it is more."""
    stages = net("schedule=plateau", "schedule.patience=0").stages()
    for mode in ("min", "min", "max"):
        stage = next(stages)
        assert stage.mode == mode
        schedule: Any = stage.optims[0].schedule
        for metric in (1.0, 2.0) if mode == "max" else (2.0, 1.0):
            schedule.observe(metric)
        assert schedule.factor(5) == 1
        schedule.observe(1.5)
        assert schedule.factor(5) < 1
