"""`dataset.balance`: drawn samples, weights of the loss, refusals, recall of rare classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from dltrain.config.compose import compose
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.split import balanced_positions
from dltrain.errors import ConfigError
from dltrain.experiment.experiment import Experiment
from dltrain.losses import CrossEntropy, Focal
from dltrain.rng import keyed

COUNTS = {"often": 60, "seldom": 12, "rarely": 3}


def table(path: str, counts: dict[str, int], seed: int = 0) -> str:
    """A CSV of two numbers and a class: overlapping normal distributions."""
    generator, lines = keyed(seed), ["x,y,kind"]
    for k, (name, count) in enumerate(counts.items()):
        for x, y in (torch.randn(count, 2, generator=generator) + 1.3 * k).tolist():
            lines.append(f"{x:.4f},{y:.4f},{name}")
    Path(path).write_text("\n".join(lines))
    return path


def pictures(path: str) -> str:
    for k, (name, count) in enumerate(COUNTS.items()):
        (Path(path) / "train" / name).mkdir(parents=True)
        (Path(path) / "test" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), 80 * k + i).save(Path(path) / "train" / name / f"{i}.png")
        Image.new("L", (8, 8), 80 * k).save(Path(path) / "test" / name / "0.png")
    return path


def texts(path: str) -> str:
    lines = [
        f"{name},text number {i} of {name}" for name, count in COUNTS.items() for i in range(count)
    ]
    Path(path).write_text("\n".join(["label,text", *lines]))
    return path


def built(*overrides: str) -> Experiment:
    composed = compose([*overrides, "callbacks=quiet", "paths.data=."])
    assert not composed.problems
    return Experiment.to_train(composed.config).build()


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        built(*overrides)
    return str(caught.value)


SETS = {
    "table": lambda: (
        "dataset=tabular",
        f"dataset.path={table('t.csv', COUNTS)}",
        "dataset.target=kind",
    ),
    "images": lambda: (
        "dataset=image_folder",
        f"dataset.path={pictures('p')}",
        "dataset.channels=1",
    ),
    "streamed images": lambda: (
        *(
            "dataset=image_folder",
            f"dataset.path={pictures('p')}",
            "dataset.channels=1",
            "dataset.memory=false",
        ),
    ),
    "texts": lambda: ("dataset=text_files", f"dataset.path={texts('t.csv')}"),
    "long texts apart": lambda: (
        "dataset=text_files",
        f"dataset.path={texts('t.csv')}",
        "dataset.bucketing=false",
    ),
}


# Who is drawn -------------------------------------------------------------------------------------


def test_classes_are_drawn_equally_often_and_their_samples_uniformly() -> None:
    classes = torch.tensor([0] * 90 + [2] * 7 + [3] * 3)[torch.randperm(100, generator=keyed(5))]
    drawn = torch.stack([balanced_positions(classes, keyed(0, epoch)) for epoch in range(300)])
    for rows in drawn:
        assert sorted(torch.bincount(classes[rows])[[0, 2, 3]].tolist()) == [33, 33, 34]
    often = (
        torch.bincount(drawn.flatten(), minlength=100).float() / 300
    )  # draws of a sample in an epoch
    for label, count in ((0, 90), (2, 7), (3, 3)):
        assert torch.allclose(often[classes == label], torch.tensor(100 / 3 / count), rtol=0.5)
    assert len({tuple(classes[rows[:3]].tolist()) for rows in drawn}) == 27, "in random order"


@pytest.mark.parametrize("kind", SETS)
def test_the_sampler_balances_training_batches_and_no_others(kind: str) -> None:
    """An epoch keeps its number of samples; each epoch draws others, the same from any start."""
    overrides = (*SETS[kind](), "dataset.batch_size=8")
    plain, data = (
        built(*overrides, f"dataset.balance={balance}").data for balance in ("none", "sampler")
    )
    assert data.train.samples == plain.train.samples
    assert data.class_counts == plain.class_counts, "the counts are those of the data"
    labels = [torch.cat([y for _, y in data.train.epoch(epoch)]) for epoch in range(2)]
    for drawn in labels:
        counts = torch.bincount(drawn, minlength=3)
        assert len(drawn) == plain.train.samples
        assert int(counts.max() - counts.min()) <= 1
    whole, again = list(data.train.epoch(1)), list(data.train.epoch(1, start=2))
    for (x, y), (a, b) in zip(whole[2:], again, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    assert not torch.equal(*labels)
    for split in ("val", "test"):
        for (x, y), (a, b) in zip(
            getattr(data, split).epoch(0), getattr(plain, split).epoch(0), strict=True
        ):
            assert torch.equal(x, a)
            assert torch.equal(y, b)


def test_another_seed_draws_others() -> None:
    path = pictures("p")
    made = [
        ImageFolder(Path(), path, balance="sampler", channels=1, seed=seed).train
        for seed in (0, 0, 1)
    ]
    first, same, other = (torch.cat([x for x, _ in split.epoch(0)]) for split in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


# What the loss weighs ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SETS)
def test_weights_are_inverse_to_the_counts_and_one_on_average(kind: str) -> None:
    experiment = built(*SETS[kind](), "dataset.balance=weights")
    loss, counts = experiment.task.loss, torch.tensor(experiment.data.class_counts).float()
    assert isinstance(loss, CrossEntropy)
    assert loss.class_weights is not None
    products = loss.class_weights * counts
    assert torch.allclose(products, products[0])
    assert float(products.sum() / counts.sum()) == pytest.approx(1)


def test_focal_is_the_focal_loss_with_such_weights() -> None:
    overrides = SETS["table"]()
    loss = built(*overrides, "dataset.balance=focal").task.loss
    weights = built(*overrides, "dataset.balance=weights").task.loss.class_weights
    own = built(*overrides, "dataset.balance=focal", "loss=focal", "loss.gamma=3").task.loss
    assert isinstance(loss, Focal)
    assert isinstance(own, Focal)
    assert (loss.gamma, own.gamma) == (2.0, 3.0)
    assert torch.equal(torch.as_tensor(loss.class_weights), torch.as_tensor(weights))
    assert torch.equal(torch.as_tensor(own.class_weights), torch.as_tensor(weights))


def test_a_weighted_focal_loss_is_the_weighted_mean_of_focal_terms() -> None:
    """Computed by hand; with soft targets each class has its weight; gamma 0 is cross-entropy."""
    z, y = torch.randn(6, 3, generator=keyed(0)), torch.tensor([0, 2, 1, 1, 0, 2])
    weights = (0.5, 1.0, 4.0)
    w, p = torch.tensor(weights), z.softmax(dim=1)
    right = p[torch.arange(6), y]
    expected = -(w[y] * (1 - right) ** 2 * right.log()).sum() / w[y].sum()
    assert torch.allclose(Focal(2.0, weights)(z, y), expected)
    shares = torch.nn.functional.one_hot(y, 3).float()
    assert torch.allclose(Focal(2.0, weights)(z, shares), expected)
    assert torch.allclose(
        Focal(0.0, weights)(z, shares.flip(0)), CrossEntropy(0.0, weights)(z, shares.flip(0))
    )


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["loss=mse", "dataset.balance=weights"], "MSE takes no class weights"),
        (["loss=hinge", "dataset.balance=focal"], "the loss is Hinge"),
        (["loss.label_smoothing=0.1", "dataset.balance=focal"], "no label smoothing"),
        (["regularization=[label_smoothing]", "dataset.balance=focal"], "no label smoothing"),
        (["loss.class_weights=[1,2]", "dataset.balance=weights"], "sets weights already"),
        (["model=vae", "dataset.balance=weights"], "Autoencoding has a loss of its own"),
        (["dataset=diabetes", "dataset.balance=sampler"], "the data has no classes"),
        (
            ["dataset=text_files", "dataset.balance=sampler", "dataset.tokens_per_batch=99"],
            "not tokens_per_batch",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_contradicting_settings_are_refused(overrides: list[str], says: str) -> None:
    assert says in refusal(*overrides)


def test_a_refusal_is_a_problem_in_the_configuration(dltrain) -> None:
    outcome = dltrain("check", "loss=mae", "dataset.balance=focal")
    assert outcome.code == 2
    assert "dataset.balance=focal  the loss is MAE" in outcome.err


# What comes of it --------------------------------------------------------------------------------


def test_the_rare_class_is_found_more_often(dltrain) -> None:
    """Its recall rises with each choice, and that of the frequent class falls for it."""
    test = table("test.csv", {"common": 300, "rare": 300}, seed=1)
    argv = (
        *(
            "dataset=tabular",
            f"dataset.path={table('train.csv', {'common': 600, 'rare': 30})}",
            "dataset.target=kind",
        ),
        *(
            f"dataset.test_path={test}",
            "model=mlp",
            "model.hidden_sizes=[16]",
            "trainer.epochs=8",
            "callbacks=quiet",
        ),
        *("optimizer.lr=0.02", "dataset.val_fraction=0"),
    )
    recall = {}
    for balance in ("none", "weights", "sampler", "focal"):
        assert dltrain(*argv, f"dataset.balance={balance}").code == 0
        outcome = dltrain("evaluate", "last", "--json")
        recall[balance] = {name: row["recall"] for name, row in outcome.json["per_class"].items()}
    for balance in ("weights", "sampler", "focal"):
        assert recall[balance]["rare"] > recall["none"]["rare"] + 0.15, recall
        assert recall[balance]["common"] < recall["none"]["common"], recall
