"""Object detection: average precision against torchmetrics and by hand, and whole runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.data.detection.dataset import STAND_IN, DetectionDataset
from dltrain.data.detection.fake import FakeDetectionSource
from dltrain.experiment.experiment import Experiment
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.tasks.detection.average_precision import average_precision
from dltrain.tasks.detection.detection import Detection as Task
from dltrain.types import Boxes, MarkedBox
from dltrain.types import Image as Pictures
from dltrain.types.boxes import COUNTED, CROWD, DIFFICULT, TRAINED

SMALL = (
    *(
        "dataset=digit_scenes",
        "dataset.digits=bundled",
        "dataset.image_size=64",
        "dataset.most=2",
        "dataset.clutter=0",
    ),
    *(
        "dataset.train_scenes=24",
        "dataset.val_scenes=8",
        "dataset.test_scenes=8",
        "dataset.largest=32",
    ),
    *(
        "model.channels=[8,16,16,16]",
        "model.pyramid_channels=16",
        "model.roi_size=3",
        "model.head_size=32",
    ),
    *(
        "model.pre_nms=30",
        "model.post_nms=20",
        "model.rpn_batch=32",
        "model.box_batch=16",
        "callbacks=quiet",
    ),
)


def random_scenes(count: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return detections near true boxes; some of another class, some doubled, some of nothing."""
    torch.manual_seed(seed)
    found, truth = [], []
    for _ in range(count):
        boxes = torch.rand(5, 2) * 60
        true = torch.cat(
            [boxes, boxes + 10 + torch.rand(5, 2) * 60, torch.randint(0, 4, (5, 1)).float()], dim=1
        )
        guess = true[torch.randint(5, (12,))]
        corners = guess[:, :4] + torch.randn(12, 4) * 3
        labels = torch.where(
            torch.rand(12, 1) < 0.2, torch.randint(0, 4, (12, 1)).float(), guess[:, 4:]
        )
        true[torch.rand(5) < 0.3, 4] = -1
        labels[torch.rand(12, 1) < 0.1] = -1
        found.append(torch.cat([corners, torch.rand(12, 1), labels], dim=1))
        truth.append(true)
    return found, truth


@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_matches_torchmetrics(seed: int) -> None:
    """Over all classes and overlaps, and of each class, to a thousandth; class 4 has no object."""
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
    """Two objects, three detections: correct, wrong, correct.

    Precision is 1 up to a recall of one half, 2/3 up to 1: of the 101 recalls 0, .01 ... 1, 51 have
    precision 1 and 50 have 2/3.
    """
    truth = [torch.tensor([[0.0, 0, 10, 10, 0], [20, 20, 40, 40, 0]])]
    found = [
        torch.tensor([[0.0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 0], [20, 20, 40, 40, 0.7, 0]])
    ]
    scores, per_class = average_precision(found, truth, 1)
    assert scores["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert per_class[0].tolist() == pytest.approx([scores["map50"], scores["map"], 2])
    perfect = [torch.cat([truth[0][:, :4], torch.ones(2, 1), truth[0][:, 4:]], dim=1)]
    assert average_precision(perfect, truth, 1)[0]["map"] == pytest.approx(1)


def test_average_precision_is_0_without_detections_and_nan_without_objects() -> None:
    nothing, some = torch.zeros(0, 6), torch.tensor([[0.0, 0, 9, 9, 0]])
    scores, per_class = average_precision([nothing], [some], 2)
    assert set(scores.values()) == {0.0}
    assert per_class[0].tolist() == [0, 0, 1]
    scores, per_class = average_precision([nothing], [torch.tensor([[0.0, 0, 0, 0, -1]])], 2)
    assert set(scores.values()) == {0.0}
    assert per_class[:, :2].isnan().all()


def flagged(*rows: tuple[float, ...]) -> Tensor:
    """Return targets (M, 6) from corners and flags, all of class 0."""
    return torch.tensor([[*corners, 0.0, flag] for *corners, flag in rows])


HERE = (0.0, 0.0, 10.0, 10.0)
THERE = (20.0, 20.0, 40.0, 40.0)


@pytest.mark.parametrize("flag", [DIFFICULT, TRAINED])
def test_difficult_objects_are_not_scored(flag: float) -> None:
    """Pascal VOC's rule, for any number of detections; also for objects that are trained on."""
    truth = [flagged((*HERE, 0), (*THERE, flag))]
    right = (*HERE, 0.5, 0.0)
    missed = average_precision([torch.tensor([right])], truth, 1)
    assert missed[0]["map"] == pytest.approx(1)
    assert missed[1][0].tolist() == pytest.approx([1, 1, 1])  # one object counts
    detected = [torch.tensor([right, (*THERE, 0.9, 0.0), (*THERE, 0.8, 0.0), (*THERE, 0.7, 0.0)])]
    assert average_precision(detected, truth, 1)[0]["map"] == pytest.approx(1)
    elsewhere = [torch.tensor([right, (60.0, 60.0, 80.0, 80.0, 0.9, 0.0)])]
    assert average_precision(elsewhere, truth, 1)[0]["map"] == pytest.approx(0.5)
    inside = (20.0, 20.0, 26.0, 26.0, 0.9, 0.0)  # with a tenth of the object's area
    small = [torch.tensor([right, inside])]
    assert average_precision(small, truth, 1)[0]["map"] == pytest.approx(0.5)
    other_class = [torch.tensor([right, (*THERE, 0.9, 1.0)])]
    # Class 1 has no object.
    assert average_precision(other_class, truth, 2)[0]["map"] == pytest.approx(1)


def test_detections_inside_a_crowd_are_not_scored() -> None:
    """COCO's rule: by the fraction of the detection that lies in the crowd."""
    truth = [flagged((*HERE, 0), (*THERE, CROWD))]
    right = (*HERE, 0.5, 0.0)
    inside = [
        torch.tensor(
            [right, (20.0, 20.0, 26.0, 26.0, 0.9, 0.0), (30.0, 30.0, 34.0, 38.0, 0.8, 0.0)]
        )
    ]
    assert average_precision(inside, truth, 1)[0]["map"] == pytest.approx(1)
    half = [torch.tensor([right, (36.0, 36.0, 46.0, 46.0, 0.9, 0.0)])]
    assert average_precision(half, truth, 1)[0]["map"] == pytest.approx(0.5)


def test_scored_objects_are_matched_first() -> None:
    truth = [flagged((*THERE, DIFFICULT), (21.0, 21.0, 41.0, 41.0, 0))]
    scores, _ = average_precision([torch.tensor([(20.0, 20.0, 40.0, 40.0, 0.9, 0.0)])], truth, 1)
    assert scores["map50"] == pytest.approx(1)
    only = [flagged((*THERE, DIFFICULT))]
    scores, per_class = average_precision([torch.tensor([(*THERE, 0.9, 0.0)])], only, 1)
    assert scores["map50"] == 0
    assert per_class[0, 2] == 0


def overlap_of(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def by_hand(found: list[Tensor], truth: list[Tensor], least: float) -> float:
    """Return the AP of one class by the definition.

    Detections from the best on match the free object that they overlap most. A detection without a
    match is wrong, unless it overlaps a difficult object. AP is the mean of the highest precision
    from each of 101 recalls on.
    """
    taken: set[tuple[int, int]] = set()
    judged: list[bool] = []
    rows = [(i, row) for i, rows in enumerate(found) for row in rows.tolist()]
    for i, row in sorted(rows, key=lambda pair: -pair[1][4]):
        overlaps = [(overlap_of(row, box), k, box[5]) for k, box in enumerate(truth[i].tolist())]
        free = [
            (o, k)
            for o, k, flag in overlaps
            if o >= least and flag == COUNTED and (i, k) not in taken
        ]
        if free:
            taken.add((i, max(free)[1]))
            judged.append(True)
        elif not any(o >= least and flag == DIFFICULT for o, _, flag in overlaps):
            judged.append(False)
    count = sum(int((boxes[:, 5] == COUNTED).sum()) for boxes in truth)
    right = [sum(judged[: n + 1]) for n in range(len(judged))]
    points = [(r / count, r / (n + 1)) for n, r in enumerate(right)]
    return (
        sum(
            max((p for r, p in points if r >= recall / 100 - 1e-9), default=0.0)
            for recall in range(101)
        )
        / 101
    )


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_with_difficult_objects_matches_the_definition(seed: int) -> None:
    found, truth = random_scenes(12, seed)
    found = [rows * torch.tensor([1, 1, 1, 1, 1, 0.0]) for rows in found]
    truth = [
        torch.cat([boxes[:, :4], torch.zeros(5, 1), torch.randint(0, 2, (5, 1)).float()], dim=1)
        for boxes in truth
    ]
    scores, per_class = average_precision(found, truth, 1)
    assert 0.1 < scores["map"] < 0.95
    assert scores["map50"] == pytest.approx(by_hand(found, truth, 0.5), abs=1e-6)
    assert scores["map75"] == pytest.approx(by_hand(found, truth, 0.75), abs=1e-6)
    assert per_class[0, 2] == sum(int((boxes[:, 5] == COUNTED).sum()) for boxes in truth)
    others = [boxes * torch.tensor([1, 1, 1, 1, 1, 0.0]) for boxes in truth]
    assert abs(average_precision(found, others, 1)[0]["map50"] - scores["map50"]) > 0.001


class Oracle(nn.Module):
    """Detects the given boxes with a score of 0.9, and a box of class 1 with 0.3."""

    detections = 3

    def forward(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        found = images.new_zeros(len(images), 3, 6)
        found[..., 5] = -1
        found[:, 0] = torch.tensor([8.0, 8, 40, 24, 0.9, 0])
        found[:, 1] = torch.tensor([4.0, 4, 8, 8, 0.3, 1])
        return {"loss_a": images.sum() * 0 + 1, "loss_b": images.sum() * 0 + 2}, found


def task(**settings: float) -> Task:
    return Task(
        DetectionDataset(FakeDetectionSource(STAND_IN)),
        Oracle(),
        lambda module, steps: None,
        1,
        **settings,
    )  # type: ignore


def test_prediction_rows_have_boxes_above_the_minimum_score() -> None:
    made = task()
    outputs = made.predict(torch.zeros(40, 3, 128, 128))
    assert outputs.shape == (40, 3, 6)
    answers = made.prediction_rows(outputs)
    assert answers[0] == {
        "objects": 1,
        "width": 128,
        "height": 128,
        "boxes": [{"class": "a", "score": 0.9, "box": [8.0, 8.0, 40.0, 24.0]}],
    }
    assert json.dumps(answers)
    assert [row["objects"] for row in task(min_score=0.2).prediction_rows(outputs)] == [2] * 40
    assert task(min_score=0.95).prediction_rows(outputs)[0]["boxes"] == []


def test_boxes_are_converted_to_pixels_of_the_file() -> None:
    """An image of 640 x 320 is scaled by 0.2 to 128 x 64; below it is padding."""
    boxes = [[8, 8, 40, 24], [100, 50, 140, 80], [10, 70, 20, 90], [-4, -4, 2, 3]]
    row = {"objects": 4, "width": 128, "height": 128}
    named = [{"class": "a", "score": 0.9, "box": box} for box in boxes]
    placed = task().in_file_pixels({**row, "boxes": named}, 640, 320)
    assert (placed["objects"], placed["width"], placed["height"]) == (3, 640, 320)
    assert [box["box"] for box in placed["boxes"]] == [
        [40.0, 40.0, 200.0, 120.0],
        [500.0, 250.0, 640, 320],
        [0.0, 0.0, 10.0, 15.0],
    ]


def test_an_explanation_draws_boxes_above_the_minimum_score() -> None:
    explained = task().explain(torch.zeros(2, 3, 128, 128))
    assert explained.pixels.shape == (2, 3, 128, 128)
    assert explained.pixels.unique().tolist() == pytest.approx([114 / 255])
    assert explained.boxes == (Boxes((MarkedBox((8, 8, 40, 24), "a 0.90"),), "predicted"),) * 2


def test_a_picture_shows_true_boxes_above_predicted_boxes() -> None:
    targets = torch.tensor(
        [[40.0, 60, 90, 100, 1, DIFFICULT], [1, 2, 3, 4, 0, COUNTED], [0, 0, 0, 0, -1, 0]]
    )
    found = torch.tensor([[40.0, 60, 90, 100, 0.9, 1], [4, 4, 8, 8, 0.3, 1], [0, 0, 0, 0, 0, -1]])
    card = task().picture(torch.zeros(3, 128, 128), targets, found)
    assert card.pixels.shape == (2, 3, 128, 128)
    assert card.captions == (
        "true: 1 object, 1 not scored (gray)",
        "predicted: 1 object, score 0.5 or more",
    )
    true, predicted = card.boxes
    assert true == Boxes(
        (MarkedBox((40, 60, 90, 100), "b, difficult", False), MarkedBox((1, 2, 3, 4), "a")), "true"
    )
    assert predicted == Boxes((MarkedBox((40, 60, 90, 100), "b 0.90"),), "predicted")


def test_an_evaluation_has_scores_pictures_and_a_row_for_each_class() -> None:
    made = task(shown=3)
    images = torch.zeros(2, 3, 128, 128)
    targets = torch.tensor([[[8.0, 8, 40, 24, 0], [60, 60, 90, 90, 1]]]).repeat(2, 1, 1)
    scores = made.evaluate([(images, targets)] * 4)
    assert scores["loss"] == 3
    assert scores["map50"] == pytest.approx(0.5)
    assert scores["per_class"].values[0].tolist() == pytest.approx([1, 1, 8])
    assert [name for name, value in scores.items() if isinstance(value, Pictures)] == [
        "objects_1",
        "objects_2",
        "objects_3",
    ]
    with pytest.raises(ValueError, match="the split is empty"):
        made.evaluate([])


def test_a_run_trains_evaluates_and_predicts_the_users_images(dltrain) -> None:
    outcome = dltrain(*SMALL, "trainer.epochs=2", "optimizer.lr=0.003", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert {
        "test/map",
        "test/map50",
        "test/map75",
        "test/loss",
        "train/loss_classifier",
    } <= metrics.keys()
    lines = [
        json.loads(line)
        for line in (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [line["val/loss"] for line in lines if "val/loss" in line]
    assert losses[1] < losses[0]
    assert all(math.isfinite(value) for value in metrics.values())
    again = dltrain("evaluate", "last", "--json")
    assert again.code == 0, again.err
    assert again.json["metrics"]["test/map50"] == pytest.approx(metrics["test/map50"])
    Image.new("L", (128, 64), 90).save("own.png")
    answer = dltrain(
        "predict", "last", "own.png", "task.min_score=0.0", "--out", "boxes.jsonl", "--json"
    )
    assert answer.code == 0, answer.err
    row = json.loads(Path("boxes.jsonl").read_text(encoding="utf-8"))
    assert (row["input"], row["width"], row["height"]) == ("own.png", 128, 64)
    assert row["objects"] == len(row["boxes"]) > 0
    Image.new("L", (256, 128), 90).save("twice.png")
    words = ["predict", "last", "twice.png", "task.min_score=0.0", "--json"]
    (twice,) = dltrain(*words).json["rows"]
    assert (twice["width"], twice["height"]) == (256, 128)
    for box, large in zip(row["boxes"], twice["boxes"], strict=True):
        assert large["box"] == pytest.approx([2 * value for value in box["box"]], abs=0.2)
    test = dltrain("predict", "last", "split=test", "--out", "test.csv", "--json")
    assert (test.code, test.json["predicted"]) == (0, 8), test.err


def test_a_stopped_run_resumes_to_the_same_weights(dltrain, save_every_epoch: None) -> None:
    """The losses sample anchors and proposals from generators that a checkpoint holds."""
    settings = (*SMALL, "trainer.epochs=2", "schedule=constant", "dataset.jitter=0.2")
    whole = dltrain(*settings, "--json").json
    part = dltrain(*settings, "trainer.steps=4", "--json").json
    resumed = dltrain("resume", part["run"], "trainer.steps=null", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["steps"] == whole["steps"]
    ends = [
        checkpoint.load(Store(Path(run["run"]) / "checkpoints").pointed("last"))["task"]
        for run in (whole, part)
    ]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert resumed.json["metrics"]["val/loss"] == whole["metrics"]["val/loss"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("dataset=digits", "model=faster_rcnn", "model.channels=[4,4,4,4]"),
            "the data has no boxes",
        ),
        (("dataset=digits", "task=detection"), "the data has no boxes: dataset=digit_scenes"),
        (
            ("dataset=digit_scenes", "model=cnn", "task=detection"),
            "this model finds no boxes: model=faster_rcnn does",
        ),
        (
            ("dataset=digit_scenes", "model=cnn", "task=classification"),
            "boxes around objects, not a class for each",
        ),
        (
            ("dataset=digit_scenes", "preprocessing=[flip]"),
            "dataset.flip=0.5 and dataset.jitter=0.2 change both",
        ),
    ],
)
def test_incompatible_settings_are_refused(
    overrides: tuple[str, ...], message: str, dltrain
) -> None:
    outcome = dltrain("check", *overrides)
    assert outcome.code == 2
    assert message in outcome.err or "image_size" in outcome.err


def test_a_missing_faster_coco_eval_is_reported_before_training(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dltrain.tasks.detection.detection.available", lambda: False)
    outcome = dltrain("dataset=digit_scenes", "debug=smoke")
    assert outcome.code == 2
    assert "pip install faster-coco-eval" in outcome.err


def test_the_experiment_accepts_another_task() -> None:
    composed = compose(["experiment=rcnn_digits", "debug=smoke"])
    assert composed.choices["task"] == "detection"
    assert isinstance(Experiment.to_train(composed.config).task, Task)


FEW = (
    *SMALL[9:],
    "dataset=yolo",
    "dataset.image_size=64",
    "trainer.steps=1",
    "dataset.test_fraction=0.4",
)


def write_yolo(folder: str, names: str, labels: tuple[int, ...]) -> None:
    """Write one image of 64x64 for each label, which is the class of its object."""
    for part in ("images", "labels"):
        Path(folder, part, "train").mkdir(parents=True, exist_ok=True)
    Path(folder, "data.yaml").write_text(f"names: {names}", encoding="utf-8")
    for i, label in enumerate(labels):
        Image.new("RGB", (64, 64), (90, 20 * i, 0)).save(f"{folder}/images/train/{i}.png")
        Path(f"{folder}/labels/train/{i}.txt").write_text(
            f"{label} 0.5 0.5 0.5 0.5", encoding="utf-8"
        )


def test_a_run_matches_other_data_by_class_name(dltrain) -> None:
    """Classes in another order or fewer are matched; an unknown class is refused by name.

    Of other data all images are scored.
    """
    write_yolo("one", "[yes, no]", (0, 1, 0, 1, 0))
    outcome = dltrain(*FEW, "dataset.path=one", "--json")
    assert outcome.code == 0, outcome.err
    write_yolo("other", "[no, unused, yes]", (2, 0, 2))
    matched = dltrain("evaluate", "last", "dataset.path=other", "--json")
    assert matched.code == 0, matched.err
    assert {name: row["objects"] for name, row in matched.json["per_class"].items()} == {
        "yes": 2,
        "no": 1,
    }
    assert "all of its images are for testing" in matched.out
    write_yolo("part", "[no]", (0, 0))
    part = dltrain("evaluate", "last", "dataset.path=part", "--json")
    assert {name: row["objects"] for name, row in part.json["per_class"].items()} == {
        "yes": 0,
        "no": 2,
    }
    write_yolo("case", "[Yes, no]", (0, 1))
    for command in (("evaluate", "last"), ("predict", "last", "split=test")):
        refused = dltrain(*command, "dataset.path=case")
        assert (refused.code, "the run knows no class Yes (it knows yes)" in refused.err) == (
            3,
            True,
        ), refused.err
    larger = dltrain("evaluate", "last", "dataset.path=other", "dataset.image_size=96")
    assert (larger.code, '"dataset.image_size=[64,64]" brings them to it' in larger.err) == (
        3,
        True,
    ), larger.err
    same = dltrain("evaluate", "last", "--json")
    assert sum(row["objects"] for row in same.json["per_class"].values()) == 2


def test_a_run_resumes_only_with_the_same_classes_in_the_same_order(dltrain) -> None:
    """Class numbers would mean other classes."""
    write_yolo("one", "[a, b]", (0, 1, 0, 1, 0))
    assert dltrain(*FEW, "dataset.path=one").code == 0
    more = ("resume", "last", "trainer.steps=2")
    write_yolo("turned", "[b, a]", (0, 1, 0, 1, 0))
    refused = dltrain(*more, "dataset.path=turned")
    assert (
        refused.code,
        "the data has the classes b, a, and the run a, b, from class number 0 on" in refused.err,
    ) == (
        3,
        True,
    ), refused.err
    write_yolo("other", "[a, c]", (0, 1, 0, 1, 0))
    refused = dltrain(*more, "dataset.path=other")
    assert (refused.code, "the run knows no class c; its classes are a, b" in refused.err) == (
        3,
        True,
    ), refused.err
    assert dltrain(*more).code == 0


@pytest.mark.parametrize("name", ["voc", "coco", "yolo"])
def test_check_reports_absent_files(name: str, dltrain) -> None:
    files = {"coco": ("dataset.images=nowhere", "dataset.annotations=no.json")}.get(
        name, ("dataset.path=nowhere",)
    )
    absent = dltrain("check", f"dataset={name}", *files)
    missing = "no.json" if name == "coco" else "nowhere"
    assert (absent.code, f"{missing} does not exist" in absent.err) == (3, True), absent.err
    unnamed = dltrain("check", f"dataset={name}")
    assert (unnamed.code, "name the images to train on" in unnamed.err) == (2, True), unnamed.err


def test_check_data_reads_the_boxes(dltrain) -> None:
    write_yolo("one", "[yes, no]", (0, 1, 0, 1, 0))
    checked = dltrain("check", "--data", *FEW, "dataset.path=one", "--json")
    assert checked.code == 0, checked.err
    assert checked.json["data"]["objects"][0]["class"] == "yes"
    assert (
        sum(
            sum(row[part] for part in ("train", "val", "test"))
            for row in checked.json["data"]["objects"]
        )
        == 5
    )
    Path("one/labels/train/3.txt").write_text(
        "1 0.5 0.5 0.5 0.5\n1 40 40 20 20\n", encoding="utf-8"
    )
    refused = dltrain("check", "--data", *FEW, "dataset.path=one")
    assert (refused.code, "3.txt:2: the box lies outside" in refused.err) == (3, True), refused.err
