"""Object detection: find the objects in an image and predict their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.detection.average_precision import (
    MISSING,
    OVERLAPS,
    available,
    average_precision,
)
from dltrain.tasks.detection.matches import match_objects
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.many_classes import worst_in
from dltrain.tasks.supervised import validation_split
from dltrain.types import Boxes, Data, Detector, Image, MarkedBox, PositiveInt, Probability, Table
from dltrain.types.boxes import HEIGHT, WIDTH, scale_to_fit, true_boxes

PREDICTED_AT_ONCE = 16  # images of a large batch
PER_CLASS = ("AP50", "AP", "objects")


class Detection(Task):
    """Learns to predict a box and a class for each object of an image.

    Batches are (images (B, C, H, W), targets (B, M, 5 or 6)): rows x1, y1, x2, y2 in pixels, class
    and perhaps a flag (dltrain.types.boxes), padded with class -1. The loss is the sum of the
    model's losses.

    Every evaluation gives the loss and COCO's average precisions: mAP over overlaps of 0.5 to 0.95,
    mAP50, mAP75, and those of each class. It shows `shown` images, each with its true boxes above
    and the predicted boxes below. Boxes with a score below `min_score` are neither drawn nor
    predicted.

    Raises:
        ValueError: The data has no boxes, the model predicts none, or faster-coco-eval is missing.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        min_score: Probability = 0.5,
        shown: PositiveInt = 4,
        watch: str = "val/map50",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not data.spec.boxes:
            raise ValueError("the data has no boxes: dataset=digit_scenes, coco, yolo and voc do")
        if not isinstance(model, Detector):
            raise ValueError("this model finds no boxes: model=faster_rcnn does")
        if not available():
            raise ValueError(MISSING)
        self.model: Any = model
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.min_score = min_score
        self.shown = shown

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            losses, _ = self.model(*batch)
            total = torch.stack(list(losses.values())).sum()
            optim.update(total, weight=len(batch[0]))
            terms = {name: value.detach() for name, value in losses.items()}
            return {"loss": total.detach(), **terms}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=validation_split(self.data),
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
        )

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {"loss": "min", **dict.fromkeys(OVERLAPS, "max")}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the loss, the average precisions, and pictures of some images with their boxes.

        Raises:
            ValueError: There are no batches.
        """
        all_detections: list[Tensor] = []
        all_targets: list[Tensor] = []
        losses: list[Tensor] = []
        pictures: list[Image] = []
        for images, targets in batches:
            terms, detections = self.model(images, targets)
            losses.append(torch.stack(list(terms.values())).sum() * len(images))
            missing = max(0, self.shown - len(pictures))
            rows = zip(images[:missing], targets[:missing], detections[:missing], strict=True)
            pictures += [self.picture(i.cpu(), t.cpu(), d.cpu()) for i, t, d in rows]
            all_detections += detections.float().cpu()
            all_targets += targets.float().cpu()
        if not all_targets:
            raise ValueError("there is nothing to evaluate: the split is empty")
        names = self.data.spec.class_names
        scores, per_class = average_precision(all_detections, all_targets, len(names))
        table = Table(per_class, names, PER_CLASS, "class", "average precision", plain=("objects",))
        return {
            "loss": float(torch.stack(losses).sum() / len(all_targets)),
            **scores,
            "per_class": worst_in(table, "AP50", "objects"),
            **{f"objects_{number}": picture for number, picture in enumerate(pictures, 1)},
        }

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield the number of objects of each image, of predicted ones and of errors, and the loss.

        Predictions with a score of at least `min_score` count. They are false positives where no
        object of their class overlaps them by half, and such objects are `missed`.
        """
        for images, targets in batches:
            for number in range(len(images)):
                one = slice(number, number + 1)
                terms, detections = self.model(images[one], targets[one])
                loss = float(torch.stack(list(terms.values())).nansum())
                predicted = torch.tensor(self.confident(detections[0])).view(-1, 6)
                matches = match_objects(predicted, targets[number].float().cpu())
                yield {
                    "objects": matches.objects,
                    "predicted": len(predicted),
                    "missed": matches.missed,
                    "false_positives": matches.false_positives,
                    "loss": loss,
                }

    def picture(self, image: Tensor, targets: Tensor, detections: Tensor) -> Image:
        """Return an image (C, H, W) with true boxes (M, 5 or 6), and with detections (D, 6)."""
        true = true_boxes(targets, self.data.spec.class_names)
        predicted = self.predicted_boxes(detections)
        num_counted = sum(box.counted for box in true.items)
        num_uncounted = len(true.items) - num_counted
        above = f"true: {plural(num_counted)}"
        if num_uncounted:
            above += f", {num_uncounted} not scored (gray)"
        below = f"predicted: {plural(len(predicted.items))}, score {self.min_score:g} or more"
        pixels = self.pixels(image.unsqueeze(0)).repeat(2, 1, 1, 1)
        return Image(pixels, (above, below), boxes=(true, predicted))

    def predicted_boxes(self, detections: Tensor) -> Boxes:
        """Return the boxes and scores of detections (D, 6) with a score of at least `min_score`."""
        names = self.data.spec.class_names
        boxes = []
        for x1, y1, x2, y2, score, label in self.confident(detections):
            boxes.append(MarkedBox((x1, y1, x2, y2), f"{names[int(label)]} {score:.2f}"))
        return Boxes(tuple(boxes), "predicted")

    def confident(self, detections: Tensor) -> list[list[float]]:
        """Return the rows of detections (D, 6) with a score of at least `min_score`."""
        is_confident = (detections[:, 5] >= 0) & (detections[:, 4] >= self.min_score)
        rows: list[list[float]] = detections[is_confident].tolist()
        return rows

    def pixels(self, images: Tensor) -> Tensor:
        """Return standardized images (B, C, H, W) as pixels in 0..1."""
        mean = torch.tensor(self.data.spec.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.data.spec.std).view(1, -1, 1, 1)
        return (images.float().cpu() * std + mean).clamp(0, 255) / 255

    def explain(self, inputs: Tensor) -> Image:
        """Return images (B, C, H, W) with the predicted boxes."""
        boxes = tuple(map(self.predicted_boxes, self.predict(inputs).float().cpu()))
        return Image(self.pixels(inputs), boxes=boxes)

    def predict(self, batch: Tensor) -> Tensor:
        """Return detections (B, D, 6) of images (B, C, H, W): x1, y1, x2, y2, score, class.

        Coordinates are in pixels of the images. The best detections come first; the rest is padded
        with class -1.

        Raises:
            ValueError: The call is traced; the number of detections depends on the images.
        """
        if torch.jit.is_tracing():
            raise ValueError("detections are as many as are found: there is no fixed graph")
        return torch.cat([self.model(part)[1] for part in batch.split(PREDICTED_AT_ONCE)])

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, Any]]:
        """Return the number of objects in each image, and their classes, scores and boxes.

        Boxes (x1, y1, x2, y2) are in pixels of the inputs, whose `width` and `height` are in the
        row. The best come first.
        """
        spec = self.data.spec
        _, height, width = spec.input_shape
        rows = []
        for detections in outputs.float().cpu():
            boxes = [
                {
                    "class": spec.class_names[int(label)],
                    "score": round(score, 4),
                    "box": [round(value, 2) for value in corners],
                }
                for *corners, score, label in self.confident(detections)
            ]
            rows.append({"objects": len(boxes), WIDTH: width, HEIGHT: height, "boxes": boxes})
        return rows

    def in_file_pixels(self, row: dict[str, Any], width: int, height: int) -> dict[str, Any]:
        """Return a row of `prediction_rows` with boxes in pixels of a file, and the file's size.

        The file was scaled to fit the inputs and padded. Boxes end at its border, and boxes in the
        padding alone are left out.
        """
        scale = scale_to_fit((height, width), (row[HEIGHT], row[WIDTH]))
        boxes = []
        for box in row["boxes"]:
            x1, y1, x2, y2 = (value / scale for value in box["box"])
            inside = [max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)]
            if inside[0] < inside[2] and inside[1] < inside[3]:
                boxes.append({**box, "box": [round(value, 1) for value in inside]})
        return {"objects": len(boxes), WIDTH: width, HEIGHT: height, "boxes": boxes}


def plural(count: int) -> str:
    """Return a number of objects as text."""
    return "1 object" if count == 1 else f"{count} objects"
