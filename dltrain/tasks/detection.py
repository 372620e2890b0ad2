"""Detection: find the objects in an image, and name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dltrain.engine import Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.average_precision import MISSING, available, average_precision
from dltrain.tasks.many_classes import worst_in
from dltrain.types import Data, Image, PositiveInt, Probability, Table

DRAWN_SIDE = 384  # pixels that a picture is enlarged to: names must be readable
AT_ONCE = 16  # images of a large batch to predict
TRUE, FOUND = "lime", "red"
PER_CLASS = ("AP50", "AP", "objects")


@runtime_checkable
class Detector(Protocol):
    """A model of which detections and losses come from one call."""

    detections: int

    def __call__(self, images: Tensor, targets: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Losses, and detections (B, D, 6): x1, y1, x2, y2, score, class, those that are none of class -1."""


class Detection(Task):
    """Learns to draw a box around each object of an image and to name it. Batches are (images (B, C, H, W), targets
    (B, M, 5)), rows x1, y1, x2, y2 in pixels and class number, filled up with class -1; the loss is the sum of the model's.

    Every evaluation gives that loss and COCO's average precisions: mAP over overlaps of 0.5 to 0.95, mAP50, mAP75, and those
    of each class; it shows `shown` scenes with their true boxes and those found. Only boxes of `min_score` at least are drawn
    and answered with. ValueError for data without boxes, a model that finds none, and where faster-coco-eval is missing.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        min_score: Probability = 0.5,
        shown: PositiveInt = 8,
        watch: str = "val/map50",
        mode: Literal["max", "min"] = "max",
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
            return {"loss": total.detach(), **{name: value.detach() for name, value in losses.items()}}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=self.data.val if self.data.val.samples else None,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=self.mode,
        )

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Average precisions and the loss, and some scenes with their boxes."""
        detections: list[Tensor] = []
        truths: list[Tensor] = []
        losses, pictures = [], []
        for images, targets in batches:
            parts, found = self.model(images, targets)
            losses.append(torch.stack(list(parts.values())).sum() * len(images))
            left = self.shown - len(truths)
            if left > 0:
                pictures.append((images[:left].cpu(), targets[:left].cpu(), found[:left].cpu()))
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
                Table(per_class, names, PER_CLASS, "class", "average precision", plain=("objects",)), "AP50", "objects"
            ),
            "scenes": self.pairs(*(torch.cat(column) for column in zip(*pictures, strict=True))),
        }

    def pairs(self, images: Tensor, targets: Tensor, found: Tensor) -> Image:
        """Every image twice: with its true boxes, and with those found."""
        true = torch.cat([targets[..., :4], torch.ones_like(targets[..., :1]), targets[..., 4:]], dim=2)
        drawn = [self.drawn(images, true, TRUE, False), self.drawn(images, found, FOUND, True)]
        captions: list[str] = []
        for boxes, rows in zip(true, found, strict=True):
            captions += [f"true: {self.count(boxes)}", f"found: {self.count(rows)}"]
        return Image(torch.stack(drawn, dim=1).flatten(0, 1), tuple(captions))

    def count(self, rows: Tensor) -> int:
        return int(self.kept(rows).sum())

    def kept(self, rows: Tensor) -> Tensor:
        """Which of detections (..., 6) are boxes that are shown."""
        return (rows[..., 5] >= 0) & (rows[..., 4] >= self.min_score)

    def drawn(self, images: Tensor, rows: Tensor, colour: str, scores: bool) -> Tensor:
        """Pictures (B, 3, H', W') in 0..1 of images as the model sees them, with boxes (B, D, 6) and their names."""
        from torchvision.utils import draw_bounding_boxes

        spec = self.data.spec
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
        pixels = (images.float().cpu() * std + mean).clamp(0, 255).to(torch.uint8)
        zoom = max(1, round(DRAWN_SIDE / max(pixels.shape[2:])))
        pixels = pixels.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3).expand(-1, 3, -1, -1)
        pictures = []
        for picture, found in zip(pixels, rows.float().cpu(), strict=True):
            boxes = found[self.kept(found)]
            labels = [
                f"{spec.class_names[int(label)]} {score:.2f}" if scores else spec.class_names[int(label)]
                for score, label in boxes[:, 4:].tolist()
            ]
            if labels:
                picture = draw_bounding_boxes(picture.contiguous(), boxes[:, :4] * zoom, labels, colour, width=2)
            pictures.append(picture)
        return torch.stack(pictures).float() / 255

    def explain(self, inputs: Tensor) -> Image:
        """Return images (B, C, H, W), enlarged where they are small, with the boxes found."""
        return Image(self.drawn(inputs, self.predict(inputs), FOUND, True))

    def predict(self, batch: Tensor) -> Tensor:
        """Detections (B, D, 6) of images (B, C, H, W): x1, y1, x2, y2 in pixels of those, score, class; the best first,
        filled up with class -1."""
        if torch.jit.is_tracing():  # the trace would be of as many boxes as these very images have
            raise ValueError("detections are as many as are found: there is no fixed graph")
        return torch.cat([self.model(part)[1] for part in batch.split(AT_ONCE)])

    def answers(self, outputs: Tensor) -> list[dict[str, Any]]:
        """How many objects each image has, and of each its class, score and box (x1, y1, x2, y2), the surest first; boxes are
        in pixels of the image scaled to fit `pixels` (width x height): divided by the row's `scale`, in those of its file."""
        spec, rows = self.data.spec, outputs.float().cpu()
        size = f"{spec.input_shape[2]}x{spec.input_shape[1]}"
        answers = []
        for found in rows:
            boxes = [
                {"class": spec.class_names[int(label)], "score": round(score, 4), "box": [round(v, 1) for v in corners]}
                for *corners, score, label in found[self.kept(found)].tolist()
            ]
            answers.append({"objects": len(boxes), "pixels": size, "boxes": boxes})
        return answers
