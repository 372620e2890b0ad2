"""Deep belief nets and deep autoencoders: stages, labels, unrolling, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from belief_nets import (
    NET,
    PERSISTENT,
    SMALL,
    assert_same,
    coder,
    fitted,
    is_unrolled,
    net,
    rbms_of,
    scored,
)
from torch import Tensor, nn

from dltrain.data.split import Split
from dltrain.models.rbm import RBM
from dltrain.runs.checkpoint import snapshot
from dltrain.tasks.images.deep_autoencoding import DeepAutoencoding
from dltrain.tasks.labeled_subset import LabeledSubset
from dltrain.types import Spec


def named(state: dict[str, Any], *parts: str) -> dict[str, Any]:
    """Return the entries of `state` with one of `parts` in their names."""
    return {name: value for name, value in state.items() if any(part in name for part in parts)}


# --- Stages


def test_pretraining_reconstructs_and_fine_tuning_classifies_digits() -> None:
    task = net(
        "dataset.batch_size=16",
        "model.hidden_sizes=[64,32]",
        "task.pretrain_epochs=4",
        "trainer.epochs=8",
    )
    before = scored(task, 0, task.data.val.epoch(0))["reconstruction_error"]
    images = torch.cat([images for images, _ in task.data.val.epoch(0)])
    spread = float(images.var(0).sum())  # around the mean image
    ends = fitted(task)
    assert ends.scores["rbm_1"]["val/reconstruction_error"] < min(0.2 * before, 0.5 * spread)
    assert ends.scores["rbm_2"]["val/reconstruction_error"] < 1
    assert ends.scores["train"]["val/accuracy"] > 0.8


@pytest.mark.parametrize(("make", "layers"), [(net, 2), (coder, 3)])
def test_there_is_a_stage_for_every_layer_and_one_for_the_whole_network(
    make: Callable[..., Any], layers: int
) -> None:
    pretraining = [f"rbm_{n}" for n in range(1, layers + 1)]
    stages = list(make().stages())
    assert [stage.name for stage in stages] == [*pretraining, "train"]
    assert [(stage.watch, stage.mode) for stage in stages[:-1]] == [
        ("val/reconstruction_error", "min")
    ] * layers
    assert [stage.name for stage in make("task.pretrain_epochs=0").stages()] == ["train"]


def test_layers_have_epochs_and_optimizers_of_their_own() -> None:
    """The last layer of an autoencoder, with Gaussian hidden units, has a third optimizer."""
    rates = (
        "task.optimizers.rbm.lr=0.25",
        "task.optimizers.code.lr=0.125",
        "optimizer.lr=0.5",
        "schedule=constant",
    )
    stages = list(coder("task.pretrain_epochs=3", "trainer.epochs=5", *rates).stages())
    assert [(stage.epochs, *stage.optims[0].lrs) for stage in stages] == [
        (3, 0.25),
        (3, 0.25),
        (3, 0.125),
        (5, 0.5),
    ]


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
    """The classifier's stage changes everything but the visible biases, which it does not use."""
    task = net(*options)
    states = {"": snapshot(task.state_dict()), **fitted(task).states}
    for before, stage, changing in (("", "rbm_1", "rbms.0."), ("rbm_1", "rbm_2", "rbms.1.")):
        for name, value in states[before].items():
            assert torch.equal(value, states[stage][name]) != (changing in name), (stage, name)
    for name, value in states["rbm_2"].items():
        kept = "visible_bias" in name or "chain" in name
        assert torch.equal(value, states["train"][name]) == kept, name


# --- Persistent chains


def test_chains_continue_from_batch_to_batch_and_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_chains_every_batch_starts_from_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Tensor] = []
    gibbs = RBM.gibbs
    monkeypatch.setattr(
        RBM,
        "gibbs",
        lambda self, hidden, steps: begun.append(hidden.clone()) or gibbs(self, hidden, steps),
    )
    task = net()
    stage, images = next(task.stages()), next(task.data.train.epoch(0))[0]
    with torch.no_grad():
        wanted = rbms_of(task)[0](images.flatten(1))
    stage.step((images, None))
    assert_same(begun, [wanted])
    assert not named(task.state_dict(), "chain")


# --- Labels


def numbers(count: int, batch_size: int = 4, seed: int = 0) -> Split:
    """Return a training split whose inputs are all different; targets are the negative inputs."""
    values = torch.arange(float(count))
    return Split(
        values.view(-1, 1), -values, torch.arange(count), Spec((1,), (), count, 0), batch_size, seed
    )


def of_epoch(labeled: LabeledSubset, number: int, start: int = 0) -> list[float]:
    batches = list(labeled.epoch(number, start))
    assert all(torch.equal(inputs[:, 0], -targets) for inputs, targets in batches)
    assert len(batches) == len(labeled) - start
    return [float(value) for inputs, _ in batches for value in inputs]


@pytest.mark.parametrize("count", [1, 3, 4, 10, 22])
def test_exactly_the_given_number_of_samples_have_labels(count: int) -> None:
    """The first of the seed's first epoch, in another order in every epoch, from any batch on."""
    labeled = LabeledSubset(numbers(22), count)
    first = [float(value) for inputs, _ in numbers(22).epoch(0) for value in inputs][:count]
    epochs = [of_epoch(labeled, number) for number in range(5)]
    assert labeled.samples == count
    assert {tuple(sorted(epoch)) for epoch in epochs} == {tuple(sorted(first))}
    assert len(set(first)) == count
    assert count == 1 or len({tuple(epoch) for epoch in epochs}) > 1
    assert of_epoch(labeled, 3) == epochs[3]
    assert (
        of_epoch(labeled, 3, len(labeled) - 1)
        == epochs[3][(len(labeled) - 1) * labeled.batch_size :]
    )


def test_the_seed_selects_the_labeled_samples() -> None:
    chosen = [sorted(of_epoch(LabeledSubset(numbers(50, seed=seed), 10), 0)) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_more_labels_than_samples_are_refused() -> None:
    assert LabeledSubset(numbers(8), 8).samples == 8
    assert LabeledSubset(numbers(8), 9).samples == 8, "a smaller split is used whole"


def test_only_fine_tuning_is_limited_to_labeled_samples() -> None:
    task = net("task.labels=40", "dataset.batch_size=16")
    *pretraining, last = task.stages()
    assert [stage.batches.samples for stage in pretraining] == [1295] * 2
    seen = torch.cat([images for images, _ in last.batches.epoch(1)])
    first = torch.cat([images for images, _ in task.data.train.epoch(0)])[:40]
    assert last.batches.samples == 40
    assert sorted(map(tuple, seen.flatten(1).tolist())) == sorted(
        map(tuple, first.flatten(1).tolist())
    )


# --- Unrolling


def stages_of(task: DeepAutoencoding) -> Iterator[str]:
    """Return the names of the stages, each trained for one step before the next."""
    for stage in task.stages():
        yield stage.name
        stage.step(next(task.data.train.epoch(0)))


def test_the_decoder_starts_as_the_transposed_encoder() -> None:
    """Only at the start of fine-tuning, where it reconstructs as the stack of RBMs does."""
    task = coder()
    assert [is_unrolled(task) for _ in stages_of(task)] == [False, False, False, True]
    assert not is_unrolled(task)
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
        torch.testing.assert_close(task.reconstructed(task.model.encode(images)).flatten(1), values)


def test_without_pretraining_the_decoder_has_weights_of_its_own() -> None:
    task = coder("task.pretrain_epochs=0")
    assert [is_unrolled(task) for _ in stages_of(task)] == [False]


def test_unrolling_copies_the_weights() -> None:
    """A change of the encoder's weights does not change the decoder's."""
    task = coder()
    task.model.unroll()
    with torch.no_grad():
        rbms_of(task)[0].linear.weight.add_(1)
    assert not is_unrolled(task)


# --- Refusals


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["dataset.scaling=standardize"], "dataset.scaling=unit brings them into 0..1"),
        (["model.hidden_sizes=[]"], "a deep belief net needs at least one hidden layer"),
        (["model=mlp", "task=deep_belief"], "this model is not a stack of RBMs"),
        (["task.optimizers.rbm.lr=-1"], "expected a number > 0, got -1"),
        (["task.optimizers.rbmm={}"], "did you mean task.optimizers.rbm?"),
        (["task.gibbs_steps=0"], "expected a whole number > 0, got 0"),
        (["task.labels=0"], "expected a whole number > 0 or null, got 0"),
        (["task.pretrain_epochs=-1"], "expected a whole number >= 0, got -1"),
        (["task.method=exact"], "task.method=exact"),
        (["model.visible_units=ternary"], "model.visible_units=ternary"),
        (
            ["model=unrolled_autoencoder", "dataset.scaling=standardize"],
            "dataset.scaling=unit brings them into 0..1",
        ),
        (["model=autoencoder", "task=deep_autoencoding"], "model=unrolled_autoencoder is"),
        (
            ["model=unrolled_autoencoder", "task=deep_belief"],
            "this model does not output class logits",
        ),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_with_the_reason(
    overrides: list[str], reason: str, dltrain
) -> None:
    base = {"dataset": "digits", "dataset.scaling": "unit", "model": "deep_belief_net"}
    keys = {override.partition("=")[0] for override in overrides}
    outcome = dltrain(
        *(f"{key}={value}" for key, value in base.items() if key not in keys), *overrides
    )
    assert outcome.code == 2, outcome.err
    assert reason in outcome.err
    assert not Path("outputs").exists()


def test_a_run_with_few_labels_and_chains_predicts(dltrain) -> None:
    """Although predict and check build it over fake data of other sizes."""
    run = dltrain(*NET, *SMALL, PERSISTENT, "task.labels=100", "callbacks=quiet", "--json").json[
        "run"
    ]
    outcome = dltrain("predict", run, "split=test", "--out", "answers.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["predicted"] == 359
    assert dltrain("check", *NET, "task.pretrain_epochs=0", "task.labels=100").code == 0


def test_a_layer_that_diverges_ends_the_run_as_diverged(dltrain) -> None:
    outcome = dltrain(
        *NET, *SMALL, "task.optimizers.rbm.lr=1e30", "trainer.log_every=1", "callbacks=quiet"
    )
    assert outcome.code == 4, outcome.err
    assert "train/loss is" in outcome.err


def test_a_plateau_schedule_uses_the_direction_of_each_stages_metric() -> None:
    """Lower is better for a layer's error, higher for the classifier's accuracy."""
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
