"""Detection: find the objects in an image, and name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.detection.average_precision import MEANS, MISSING, available, average_precision
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.many_classes import worst_in
from dltrain.types import Boxes, Data, Image, MarkedBox, PositiveInt, Probability, Table
from dltrain.types.boxes import true_boxes

AT_ONCE = 16  # images of a large batch to predict
PER_CLASS = ("AP50", "AP", "objects")


@runtime_checkable
class Detector(Protocol):
    """A model of which detections and losses come from one call."""

    detections: int

    def __call__(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses, and detections (B, D, 6): x1, y1, x2, y2, score, class, those that are none of class -1."""


class Detection(Task):
    """Learns to draw a box around each object of an image and to name it. Batches are (images (B,
    C, H, W), targets (B, M, 5 or 6)), rows x1, y1, x2, y2 in pixels, class number and perhaps a
    flag (dltrain.types.boxes), padded with class -1; the loss is the sum of the model's.

    Every evaluation gives that loss and COCO's average precisions: mAP over overlaps of 0.5 to
    0.95, mAP50, mAP75, and those of each class. It shows `shown` images, each with its true boxes
    above and the predicted ones below. Only boxes with a score of at least `min_score` are drawn
    and given as predictions. ValueError for data without boxes, for a model that predicts none, and
    if faster-coco-eval is missing.
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
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode
        self.min_score, self.shown = min_score, shown

    def stages(self) -> Iterator[Stage]:
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            losses, _ = self.model(*batch)
            total = torch.stack(list(losses.values())).sum()
            optim.update(total, weight=len(batch[0]))
            return {
                "loss": total.detach(),
                **{name: value.detach() for name, value in losses.items()},
            }

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=self.data.val if self.data.val.samples else None,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
        )

    def directions(self) -> dict[str, Direction | None]:
        return {"loss": "min", **dict.fromkeys(MEANS, "max")}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the average precisions, the loss, and pictures of some images with their boxes."""
        detections: list[Tensor] = []
        truths: list[Tensor] = []
        losses: list[Tensor] = []
        pictures: list[Image] = []
        for images, targets in batches:
            parts, found = self.model(images, targets)
            losses.append(torch.stack(list(parts.values())).sum() * len(images))
            left = self.shown - len(truths)
            if left > 0:
                pictures += map(
                    self.card, images[:left].cpu(), targets[:left].cpu(), found[:left].cpu()
                )
            detections += found.float().cpu()
            truths += targets.float().cpu()
        if not truths:
            raise ValueError("there is nothing to evaluate: the split is empty")
        names = self.data.spec.class_names
        scores, per_class = average_precision(detections, truths, len(names))
        return {
            "loss": float(torch.stack(losses).sum() / len(truths)),
            **scores,
            "per_class": worst_in(
                Table(
                    per_class, names, PER_CLASS, "class", "average precision", plain=("objects",)
                ),
                "AP50",
                "objects",
            ),
            **{f"objects_{number}": picture for number, picture in enumerate(pictures, 1)},
        }

    def card(self, image: Tensor, targets: Tensor, found: Tensor) -> Image:
        """Return an image (C, H, W) with its true boxes (M, 5 or 6), and the same with the
        predicted ones (D, 6).
        """
        true, predicted = (
            true_boxes(targets, self.data.spec.class_names),
            self.predicted_boxes(found),
        )
        counted = sum(box.counted for box in true.items)
        captions = [f"true: {plural(counted)}", f"predicted: {plural(len(predicted.items))}"]
        if uncounted := len(true.items) - counted:
            captions[0] += f", {uncounted} not scored (gray)"
        captions[1] += f", score {self.min_score:g} or more"
        return Image(
            self.pixels(image.unsqueeze(0)).repeat(2, 1, 1, 1),
            tuple(captions),
            boxes=(true, predicted),
        )

    def predicted_boxes(self, found: Tensor) -> Boxes:
        """Return the boxes of those detections (D, 6) that are shown, with their scores."""
        names = self.data.spec.class_names
        boxes = [
            MarkedBox((x1, y1, x2, y2), f"{names[int(label)]} {score:.2f}")
            for x1, y1, x2, y2, score, label in found[self.kept(found)].tolist()
        ]
        return Boxes(tuple(boxes), "predicted")

    def kept(self, rows: Tensor) -> Tensor:
        """Return which of the detections (..., 6) are boxes that are shown."""
        return (rows[..., 5] >= 0) & (rows[..., 4] >= self.min_score)

    def pixels(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as the model sees them as pixels in 0..1."""
        spec = self.data.spec
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
        return (images.float().cpu() * std + mean).clamp(0, 255) / 255

    def explain(self, inputs: Tensor) -> Image:
        """Return images (B, C, H, W) with the predicted boxes."""
        boxes = tuple(map(self.predicted_boxes, self.predict(inputs).float().cpu()))
        return Image(self.pixels(inputs), boxes=boxes)

    def predict(self, batch: Tensor) -> Tensor:
        """Detections (B, D, 6) of images (B, C, H, W): x1, y1, x2, y2 in pixels of those, score, class; the best first,
        filled up with class -1."""
        if torch.jit.is_tracing():  # the trace would be of as many boxes as these very images have
            raise ValueError("detections are as many as are found: there is no fixed graph")
        return torch.cat([self.model(part)[1] for part in batch.split(AT_ONCE)])

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, Any]]:
        """How many objects each image has, and of each its class, score and box (x1, y1, x2, y2), the surest first; boxes are
        in pixels of the image scaled to fit `pixels` (width x height): divided by the row's `scale`, in those of its file."""
        spec, rows = self.data.spec, outputs.float().cpu()
        size = f"{spec.input_shape[2]}x{spec.input_shape[1]}"
        answers = []
        for found in rows:
            boxes = [
                {
                    "class": spec.class_names[int(label)],
                    "score": round(score, 4),
                    "box": [round(v, 1) for v in corners],
                }
                for *corners, score, label in found[self.kept(found)].tolist()
            ]
            answers.append({"objects": len(boxes), "pixels": size, "boxes": boxes})
        return answers


def plural(count: int) -> str:
    """Return a number of objects as text."""
    return f"{count} object{'' if count == 1 else 's'}"
