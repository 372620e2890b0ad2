"""Pictures: `predict --explain`, `check --images`, those of a run; and `evaluate tta=`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.experiment.experiment import Experiment
from dltrain.runs.find import find

SHAPE = (
    *(
        "dataset=synthetic",
        "dataset.source.channels=1",
        "dataset.source.height=8",
        "dataset.source.width=8",
    ),
    *(
        "dataset.source.num_classes=4",
        "dataset.source.train_samples=80",
        "dataset.source.test_samples=22",
    ),
)
RUN = (*SHAPE, "model=cnn", "model.channels=[4]", "trainer.epochs=1", "callbacks=quiet")
TEXTS = (
    "dataset=text_files",
    "dataset.path=t.csv",
    "model=fasttext",
    "model.buckets=100",
    "trainer.epochs=1",
    "callbacks=quiet",
)


@pytest.fixture(autouse=True)
def texts() -> None:
    lines = [f"{('good', 'bad')[i % 2]},text number {i} of its kind" for i in range(40)]
    Path("t.csv").write_text("\n".join(["label,text", *lines]))


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def pictures(folder: Path) -> dict[str, Any]:
    """{tag: (step, picture)} of a run's TensorBoard, the last of each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


# predict --explain


def test_every_input_gets_a_picture_in_the_run(dltrain) -> None:
    """Pictures are called like the files; a repeated name gets a number.

    The table names them. An input that is not an image gets none.
    """
    assert dltrain(*RUN).code == 0
    for name in ("猫.png", "a/猫.jpg", "b.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.effect_noise((8, 8), 90).save(name)
    Path("c.png").write_bytes(b"")
    outcome = dltrain(
        "predict", "last", "猫.png", "a/猫.jpg", "b.png", "c.png", "--explain", "--json"
    )
    assert outcome.code == 3
    folder = find("last", Path("outputs")).folder / "explained"
    assert sorted(path.name for path in folder.iterdir()) == ["b.png", "猫-2.png", "猫.png"]
    assert [row["explained"] for row in outcome.json["rows"]] == [
        str(folder / f"{n}.png") for n in ("猫", "猫-2", "b")
    ]
    assert str(folder / "b.png") in outcome.out
    height, width, _ = drawn(folder / "b.png").shape
    assert (width, height - width // 2 > 10) == (452, True), (
        "image and heat side by side, over the answer"
    )
    left, right = drawn(folder / "b.png")[:224, :224], drawn(folder / "b.png")[:224, 224:448]
    assert (left[..., 0] == left[..., 2]).all(), "a gray image"
    assert (right[..., 0] != right[..., 2]).any(), "a heat in color"
    assert dltrain("predict", "last", "split=test", "--explain", "--out", "x.csv").code == 0
    assert (folder / "synthetic-test-21.png").exists()
    assert "explained" in Path("x.csv").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize(
    ("run", "what", "says"),
    [
        ((*RUN[:-3], "model=mlp", *RUN[-2:]), "split=test", "no convolution with a map to look at"),
        (TEXTS, "a fine film", "only images are explained"),
        (
            ("dataset=diabetes", "trainer.epochs=1", "callbacks=quiet"),
            "split=test",
            "Regression explains nothing",
        ),
    ],
    ids=["mlp", "texts", "regression"],
)
def test_unexplainable_runs_are_refused(
    run: tuple[str, ...], what: str, says: str, dltrain
) -> None:
    assert dltrain(*[o for o in run if not o.startswith("model.channels")]).code == 0
    outcome = dltrain("predict", "last", what, "--explain")
    assert outcome.code == 2
    assert says in outcome.err


def test_the_flags_belong_to_their_verbs(dltrain) -> None:
    assert "--explain is a flag of `dltrain predict` only" in dltrain("check", "--explain").err
    assert "--images is a flag of `dltrain check` only" in dltrain("train", "--images", "x.png").err


# check --images


def test_check_draws_the_first_batch_as_the_network_gets_it(dltrain) -> None:
    """Augmented; the same every time; with its classes under it."""
    argv = ("check", *SHAPE, "model=perceptron", "--images")
    for name, more in (
        ("a", ()),
        ("b", ()),
        ("c", ("preprocessing=[cutout]", "preprocessing.cutout.fill=255")),
    ):
        outcome = dltrain(*argv, f"{name}.png", *more)
        assert outcome.code == 0, outcome.err
        assert f"{name}.png was written" in outcome.out
    assert drawn(Path("a.png")).shape[1] == 8 * 92
    assert (drawn(Path("a.png")) == drawn(Path("b.png"))).all()
    assert (drawn(Path("c.png"))[:72] == 255).mean() > (
        drawn(Path("a.png"))[:72] == 255
    ).mean() + 0.3
    assert dltrain("check", "dataset=mnist", "debug=smoke", "--images", "fake.png").code == 0
    assert drawn(Path("fake.png")).size


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("dataset=wine", "--images", "x.png"), 2, "no images to draw"),
        (("--images", "x.nothing"), 2, "cannot be written"),
        (("--images", "no/such/x.png"), 2, "cannot be written"),
        (("dataset=mnist", "--images", "x.png"), 3, "mnist"),
    ],
)
def test_data_without_images_is_refused(
    argv: tuple[str, ...], code: int, says: str, dltrain, monkeypatch: Any
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", offline)
    outcome = dltrain("check", "model=perceptron", *argv)
    assert outcome.code == code, outcome.err
    assert says in outcome.err.lower()
    assert not list(Path().glob("x.*"))


def offline(*asked: Any, **how: Any) -> None:
    raise OSError("offline")


# What a run draws


def test_a_run_draws_a_batch_at_its_start_and_what_it_learned_at_its_end(dltrain) -> None:
    argv = (
        *RUN[:-1],
        "preprocessing=[rand_augment]",
        "callbacks.progress=null",
        "trainer.log_every=1",
    )
    assert dltrain(*argv, "regularization=[ema]").code == 0
    found = pictures(find("last", Path("outputs")).folder)
    assert found["train/batch"] == [1]
    inside = {f"explain/{name}" for name in ("filters", "first_maps", "last_maps", "mistakes")}
    assert inside <= found.keys()
    assert all(found[name] == [2] for name in inside)


def test_what_has_no_convolution_is_not_explained_and_no_batch_of_numbers_is_drawn(dltrain) -> None:
    assert dltrain("dataset=wine", "trainer.epochs=1", "callbacks.progress=null").code == 0
    assert not [
        tag
        for tag in pictures(find("last", Path("outputs")).folder)
        if "batch" in tag or "explain" in tag
    ]
    assert dltrain(*SHAPE, "model=mlp", "trainer.epochs=1", "callbacks.progress=null").code == 0
    found = pictures(find("last", Path("outputs")).folder)
    assert "train/batch" in found
    assert not [tag for tag in found if tag.startswith("explain")]


def test_pictures_change_no_figure(dltrain) -> None:
    """The same metrics, bit for bit, with TensorBoard and explanations and without."""
    logs = []
    for more in ((), ("callbacks=quiet",)):
        argv = (
            *RUN[:-1],
            "preprocessing=[trivial_augment]",
            "regularization=[dropout]",
            "model.hidden_sizes=[8]",
        )
        assert dltrain(*argv, "callbacks.progress=null" if not more else more[0]).code == 0
        logs.append((find("last", Path("outputs")).folder / "metrics.jsonl").read_bytes())
    assert logs[0] == logs[1]


# evaluate tta=


@pytest.mark.parametrize("views", ["flip", "flip,shift", "[crops]"])
def test_scores_of_the_mean_over_views(views: str, dltrain) -> None:
    """All scores are printed; they are other ones than without, and say what they are of."""
    assert dltrain(*RUN, "regularization=[ema]").code == 0
    plain, viewed = (
        dltrain("evaluate", "last", "--json"),
        dltrain("evaluate", "last", f"tta={views}", "--json"),
    )
    assert viewed.code == 0, viewed.err
    assert f"mean over the views of tta={views}" in viewed.out
    assert viewed.json["metrics"].keys() == plain.json["metrics"].keys()
    assert viewed.json["metrics"]["test/loss"] != plain.json["metrics"]["test/loss"]
    assert sum(row["support"] for row in viewed.json["per_class"].values()) == 22


def test_the_score_is_that_of_the_averaged_probabilities(dltrain) -> None:
    """The score equals one computed here from the run's own weights."""
    from dltrain.options import Options
    from dltrain.runs.open import find_run, load_trained, position, saved_configuration

    assert dltrain(*RUN).code == 0
    run, _ = find_run(Options(names=["last"]))
    experiment = Experiment.to_evaluate(saved_configuration(run, []).config, run.description())
    position(experiment, load_trained(run, "best")[1])
    task = experiment.task.eval()
    batches = list(experiment.data.test.epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        mean = (task.predict(x) + task.predict(x.flip(3))) / 2
    metrics = dltrain("evaluate", "last", "tta=flip", "--json").json["metrics"]
    assert metrics["test/accuracy"] == pytest.approx(
        float((mean.argmax(dim=1) == y).float().mean())
    )
    loss = -mean[torch.arange(len(y)), y].log().mean()
    assert metrics["test/loss"] == pytest.approx(float(loss), rel=1e-4)


def test_views_of_a_run_are_those_of_its_test_and_of_what_follows(dltrain) -> None:
    """`task.views` changes no weight and scores the test as `tta=` does.

    `task.views=[]` removes the views.
    """
    watching = ("trainer.watch=val/loss", "trainer.epochs=1")
    plain, viewed = (
        dltrain(*RUN, *watching, "--json"),
        dltrain(*RUN, *watching, "task.views=[flip]", "--json"),
    )
    assert (plain.code, viewed.code) == (0, 0), viewed.err
    first, second = plain.json, viewed.json
    assert first["metrics"]["test/loss"] != second["metrics"]["test/loss"]
    runs = {
        name: dltrain("evaluate", *argv, "--json").json["metrics"]
        for name, argv in {
            "plain with tta": (first["run"], "tta=flip"),
            "viewed": (second["run"],),
            "viewed without": (second["run"], "task.views=[]"),
        }.items()
    }
    assert runs["viewed"]["test/loss"] == second["metrics"]["test/loss"]
    assert 'mean over the views of "task.views=[flip]"' in dltrain("evaluate", second["run"]).out
    assert runs["viewed"] == runs["plain with tta"]
    assert runs["viewed without"]["test/loss"] == first["metrics"]["test/loss"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("dataset=digits", "model=mlp", "task.views=[flop]"), "each one of flip, shift, crops"),
        ((*TEXTS, "task.views=[flip]"), "only images have views"),
    ],
    ids=["unknown", "texts"],
)
def test_views_that_a_run_cannot_have_end_it_before_it_begins(
    overrides: tuple[str, ...], says: str, dltrain
) -> None:
    outcome = dltrain(*overrides)
    assert outcome.code == 2
    assert says in outcome.err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("run", "views", "says"),
    [
        (RUN, "flop", "unknown view 'flop'"),
        (
            ("dataset=diabetes", "trainer.epochs=1", "callbacks=quiet"),
            "flip",
            "Regression gives no probabilities",
        ),
        (TEXTS, "flip", "only images have views"),
    ],
    ids=["unknown", "regression", "texts"],
)
def test_what_has_no_views_is_refused(run: tuple[str, ...], views: str, says: str, dltrain) -> None:
    assert dltrain(*run).code == 0
    outcome = dltrain("evaluate", "last", f"tta={views}")
    assert outcome.code == 2
    assert says in outcome.err
