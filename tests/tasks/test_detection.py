"""Average precision against torchmetrics and by hand; a run that learns, resumes and draws what it finds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dltrain import build, checkpoint
from dltrain.checkpoint import Store
from dltrain.config.compose import compose
from dltrain.data.detection import STAND_IN, Detection, FakeScenes
from dltrain.tasks.average_precision import average_precision
from dltrain.tasks.detection import Detection as Task

SMALL = (
    *("dataset=digit_scenes", "dataset.digits=bundled", "dataset.image_size=64", "dataset.most=2", "dataset.clutter=0"),
    *("dataset.train_scenes=24", "dataset.val_scenes=8", "dataset.test_scenes=8", "dataset.largest=32"),
    *("model.channels=[8,16,16,16]", "model.pyramid_channels=16", "model.roi_size=3", "model.head_size=32"),
    *("model.pre_nms=30", "model.post_nms=20", "model.rpn_batch=32", "model.box_batch=16", "callbacks=quiet"),
)


def random_scenes(count: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Detections near true boxes, some of another class, some doubled, some of nothing; with filling."""
    torch.manual_seed(seed)
    found, truth = [], []
    for _ in range(count):
        boxes = torch.rand(5, 2) * 60
        true = torch.cat([boxes, boxes + 10 + torch.rand(5, 2) * 60, torch.randint(0, 4, (5, 1)).float()], dim=1)
        guess = true[torch.randint(5, (12,))]
        corners = guess[:, :4] + torch.randn(12, 4) * 3
        labels = torch.where(torch.rand(12, 1) < 0.2, torch.randint(0, 4, (12, 1)).float(), guess[:, 4:])
        true[torch.rand(5) < 0.3, 4] = -1
        labels[torch.rand(12, 1) < 0.1] = -1
        found.append(torch.cat([corners, torch.rand(12, 1), labels], dim=1))
        truth.append(true)
    return found, truth


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_is_that_of_torchmetrics(seed: int) -> None:
    """Over all classes and overlaps, and of each class, to a thousandth or so; class 4 has no object."""
    from torchmetrics.detection import MeanAveragePrecision

    found, truth = random_scenes(20, seed)
    metric = MeanAveragePrecision(class_metrics=True, backend="faster_coco_eval")
    for rows, boxes in zip(found, truth, strict=True):
        rows, boxes = rows[rows[:, 5] >= 0], boxes[boxes[:, 4] >= 0]
        metric.update(
            [{"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()}],
            [{"boxes": boxes[:, :4], "labels": boxes[:, 4].long()}],
        )
    expected = metric.compute()
    scores, per_class = average_precision(found, truth, 5)
    for ours, theirs in {"map": "map", "map50": "map_50", "map75": "map_75"}.items():
        assert scores[ours] == pytest.approx(float(expected[theirs]), abs=1e-3)
    assert 0.1 < scores["map"] < scores["map50"] < 1
    assert per_class[:4, 1].tolist() == pytest.approx(expected["map_per_class"].tolist(), abs=3e-3)
    assert per_class[4, :2].isnan().all()
    assert int(per_class[:, 2].sum()) == sum(int((boxes[:, 4] >= 0).sum()) for boxes in truth)


def test_average_precision_by_hand() -> None:
    """Two objects, three detections: right, wrong, right. Precision 1 up to a recall of a half, 2/3 up to 1: of the 101
    recalls 0, .01 ... 1, 51 have precision 1 and 50 have 2/3."""
    truth = [torch.tensor([[0.0, 0, 10, 10, 0], [20, 20, 40, 40, 0]])]
    found = [torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 0], [20, 20, 40, 40, 0.7, 0]])]
    scores, per_class = average_precision(found, truth, 1)
    assert scores["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert per_class[0].tolist() == pytest.approx([scores["map50"], scores["map"], 2])
    perfect = [torch.cat([truth[0][:, :4], torch.ones(2, 1), truth[0][:, 4:]], dim=1)]
    assert average_precision(perfect, truth, 1)[0]["map"] == pytest.approx(1)


def test_without_detections_or_without_objects_the_precision_is_nothing() -> None:
    nothing, some = torch.zeros(0, 6), torch.tensor([[0.0, 0, 9, 9, 0]])
    scores, per_class = average_precision([nothing], [some], 2)
    assert set(scores.values()) == {0.0}
    assert per_class[0].tolist() == [0, 0, 1]
    scores, per_class = average_precision([nothing], [torch.tensor([[0.0, 0, 0, 0, -1]])], 2)
    assert set(scores.values()) == {0.0}
    assert per_class[:, :2].isnan().all()


class Oracle(nn.Module):
    """Finds what it was told, with a score of 0.9, and something of class 1 with 0.3."""

    detections = 3

    def forward(self, images: Tensor, targets: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        found = images.new_zeros(len(images), 3, 6)
        found[..., 5] = -1
        found[:, 0] = torch.tensor([8.0, 8, 40, 24, 0.9, 0])
        found[:, 1] = torch.tensor([4.0, 4, 8, 8, 0.3, 1])
        return {"loss_a": images.sum() * 0 + 1, "loss_b": images.sum() * 0 + 2}, found


def task(**settings: float) -> Task:
    return Task(Detection(FakeScenes(STAND_IN)), Oracle(), lambda module, steps: None, 1, **settings)  # type: ignore


def test_answers_are_the_sure_boxes_in_pixels() -> None:
    made = task()
    outputs = made.predict(torch.zeros(40, 3, 128, 128))
    assert outputs.shape == (40, 3, 6)
    answers = made.answers(outputs)
    assert answers[0] == {
        "objects": 1,
        "pixels": "128x128",
        "boxes": [{"class": "a", "score": 0.9, "box": [8.0, 8.0, 40.0, 24.0]}],
    }
    assert json.dumps(answers)
    assert [row["objects"] for row in task(min_score=0.2).answers(outputs)] == [2] * 40
    assert task(min_score=0.95).answers(outputs)[0]["boxes"] == []


def test_boxes_are_drawn_where_they_are() -> None:
    """Enlarged three times: red at the box's edge, the image as it was outside; boxes that are not sure are not drawn."""
    pictures = task().explain(torch.zeros(2, 3, 128, 128)).pixels
    assert pictures.shape == (2, 3, 384, 384)
    red = (pictures[0, 0] > 0.99) & (pictures[0, 1:] < 0.01).all(0)
    ys, xs = red.nonzero().unbind(1)
    assert (int(xs.min()), int(xs.max())) == pytest.approx((24, 120), abs=2)
    assert (int(ys.min()), int(ys.max())) == pytest.approx((24, 72), abs=2)
    assert pictures[0, :, 300:, :].unique().tolist() == pytest.approx([114 / 255], abs=1e-6)


def test_an_evaluation_scores_shows_true_boxes_beside_found_ones_and_has_a_row_a_class() -> None:
    made = task(shown=3)
    images = torch.zeros(4, 3, 128, 128)
    targets = torch.tensor([[[8.0, 8, 40, 24, 0], [60, 60, 90, 90, 1]]]).repeat(4, 1, 1)
    scores = made.evaluate([(images, targets), (images, targets)])
    assert scores["loss"] == 3
    assert scores["map50"] == pytest.approx(0.5)
    assert scores["per_class"].values[0].tolist() == pytest.approx([1, 1, 8])
    assert scores["scenes"].pixels.shape == (6, 3, 384, 384)
    assert scores["scenes"].captions == ("true: 2", "found: 1") * 3
    with pytest.raises(ValueError, match="the split is empty"):
        made.evaluate([])


def test_a_run_learns_and_is_evaluated_and_predicts_images_of_the_users_own(dltrain) -> None:
    outcome = dltrain(*SMALL, "trainer.epochs=2", "optimizer.lr=0.003", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert {"test/map", "test/map50", "test/map75", "test/loss", "train/loss_classifier"} <= metrics.keys()
    lines = [json.loads(line) for line in (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()]
    losses = [line["val/loss"] for line in lines if "val/loss" in line]
    assert losses[1] < losses[0]
    assert all(math.isfinite(value) for value in metrics.values())
    again = dltrain("evaluate", "last", "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"]["test/map50"] == pytest.approx(metrics["test/map50"])
    Image.new("L", (128, 64), 90).save("own.png")
    answer = dltrain("predict", "last", "own.png", "task.min_score=0.0", "--out", "boxes.jsonl", "--json")
    assert answer.code == 0, answer.err
    row = json.loads(Path("boxes.jsonl").read_text(encoding="utf-8"))
    assert (row["input"], row["scale"], row["pixels"]) == ("own.png", 0.5, "64x64")
    assert row["objects"] == len(row["boxes"])
    test = dltrain("predict", "last", "split=test", "--out", "test.csv", "--json")
    assert (test.code, test.json["predicted"]) == (0, 8), test.err


def test_a_stopped_run_resumes_to_the_same_weights(dltrain, save_every_epoch: None) -> None:
    """The losses draw anchors and proposals anew in each step: from the generators that a checkpoint holds."""
    settings = (*SMALL, "trainer.epochs=2", "schedule=constant", "dataset.jitter=0.2")
    whole = dltrain(*settings, "--json").json
    part = dltrain(*settings, "trainer.steps=4", "--json").json
    resumed = dltrain("resume", part["run"], "trainer.steps=null", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["steps"] == whole["steps"]
    ends = [checkpoint.load(Store(Path(run["run"]) / "checkpoints").pointed("last"))["task"] for run in (whole, part)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert resumed.json["metrics"]["val/loss"] == whole["metrics"]["val/loss"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset=digits", "model=faster_rcnn", "model.channels=[4,4,4,4]"), "the data has no boxes"),
        (("dataset=digits", "task=detection"), "the data has no boxes: dataset=digit_scenes"),
        (("dataset=digit_scenes", "model=cnn", "task=detection"), "this model finds no boxes: model=faster_rcnn does"),
        (("dataset=digit_scenes", "model=cnn", "task=classification"), "boxes around objects, not a class for each"),
        (("dataset=digit_scenes", "preprocessing=[flip]"), "dataset.flip=0.5 and dataset.jitter=0.2 change both"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: tuple[str, ...], message: str, dltrain) -> None:
    outcome = dltrain("check", *overrides)
    assert outcome.code == 2
    assert message in outcome.err or "image_size" in outcome.err


def test_without_the_library_nothing_is_trained(dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dltrain.tasks.detection.available", lambda: False)
    outcome = dltrain("dataset=digit_scenes", "debug=smoke")
    assert outcome.code == 2
    assert 'pip install "dltrain[detection]"' in outcome.err


def test_the_experiment_takes_a_task_of_its_own() -> None:
    composed = compose(["experiment=rcnn_digits", "debug=smoke"])
    assert composed.choices["task"] == "detection"
    assert isinstance(build.build(composed.config).task, Task)
