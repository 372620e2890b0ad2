"""Average precision of detections by the rules of the COCO challenge, through faster_coco_eval."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from dltrain.types.boxes import CLASS, COUNTED, CROWD, DIFFICULT, FLAG, TRAINED, is_box, is_counted

MISSING = "detections are scored by faster-coco-eval: pip install faster-coco-eval"
CLASSES_AT_ONCE = 100  # are scored together: of many classes, few are in an image
MAX_AREA = 1e10  # COCO leaves larger objects out of the score
OVERLAPS = {  # the thresholds are 0.5, 0.55 ... 0.95
    "map": slice(None),
    "map50": slice(0, 1),
    "map75": slice(5, 6),
}


def available() -> bool:
    """Return whether faster_coco_eval is installed."""
    return "faster_coco_eval" in sys.modules or find_spec("faster_coco_eval") is not None


def average_precision(
    detections: list[Tensor], targets: list[Tensor], num_classes: int
) -> tuple[dict[str, float], Tensor]:
    """Score detections by COCO's rules (Lin et al. 2014, "Microsoft COCO").

    AP is the area under the curve of precision over recall. A detection is correct if its overlap
    (intersection over union) with an object of its class, which no better detection has matched, is
    at least the threshold. mAP is the mean over classes and over thresholds of 0.5 to 0.95, mAP50
    that at 0.5.

    Flagged objects need not be found, and a detection of one is neither correct nor wrong, by the
    rules of Pascal VOC (difficult) and COCO (crowd). A detection matches a difficult object by the
    overlap above, and a crowd if that fraction of the detection's own area lies in it; any number
    of detections may match. Objects without a flag are matched first.

    Args:
        detections: For each image (D, 6): x1, y1, x2, y2, score, class; class -1 is not a box.
        targets: For each image (M, 5 or 6): x1, y1, x2, y2, class and perhaps a flag; class -1 is
            not a box.
        num_classes: The number K of classes.

    Returns:
        {"map", "map50", "map75"} in 0..1, and AP50, AP and the number of objects of each class (K,
        3), NaN for a class without objects.

    Raises:
        ImportError: faster_coco_eval is missing.
    """
    if not available():
        raise ImportError(MISSING)
    truth: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    counts = torch.zeros(num_classes)
    for image, (rows, boxes) in enumerate(zip(detections, targets, strict=True), 1):
        rows = rows[rows[:, 5] >= 0]
        truth += _truth(image, boxes[is_box(boxes)], rows)
        predicted += _detections(image, rows)
        classes = boxes[is_counted(boxes)][:, CLASS].long()
        counts += torch.bincount(classes, minlength=num_classes)
    for number, box in enumerate(truth, 1):
        box["id"] = number
    curves = torch.zeros(10, num_classes)  # AP of every threshold and class
    true_blocks = by_class_block(truth)
    predicted_blocks = by_class_block(predicted)
    for first in true_blocks.keys() & predicted_blocks.keys():
        block = range(first, min(num_classes, first + CLASSES_AT_ONCE))
        curves[:, first : block.stop] = _curves(true_blocks[first], predicted_blocks[first], block)
    curves = torch.where(counts > 0, curves.nan_to_num(0.0), torch.nan)
    scores = {
        name: float(curves[thresholds].nanmean().nan_to_num(0.0))
        for name, thresholds in OVERLAPS.items()
    }
    return scores, torch.stack([curves[0], curves.mean(dim=0), counts], dim=1)


def by_class_block(boxes: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return the annotations by the first class of the block of classes that is scored together."""
    blocks: dict[int, list[dict[str, Any]]] = {}
    for box in boxes:
        number = box["category_id"] - 1
        blocks.setdefault(number - number % CLASSES_AT_ONCE, []).append(box)
    return blocks


def _curves(truth: list[dict[str, Any]], predicted: list[dict[str, Any]], classes: range) -> Tensor:
    """Return the AP (10, K) of every threshold and of each of K classes, from their annotations.

    Time and memory grow with images x classes x ranges of object size, so only images with one of
    the classes are included, and only the range of all sizes.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    images = {box["image_id"] for box in truth} | {box["image_id"] for box in predicted}
    described = {
        "info": {},
        "images": [{"id": image} for image in sorted(images)],
        "categories": [{"id": k + 1, "name": str(k)} for k in classes],
        "annotations": truth,
    }
    known = COCO(described)
    evaluation = COCOeval_faster(known, known.loadRes(predicted), "bbox")
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.maxDets = evaluation.params.maxDets[-1:]
    evaluation.evaluate()
    evaluation.accumulate()
    # (thresholds, recalls, classes, size ranges, limits of detections)
    precision = torch.as_tensor(evaluation.eval["precision"])[:, :, :, 0, -1]
    return precision.clamp_min(0).mean(dim=1).float()


def _truth(image: int, boxes: Tensor, detections: Tensor) -> list[dict[str, Any]]:
    """Return the annotations of the boxes (M, 5 or 6) of an image with detections (D, 6).

    A difficult object has as many annotations as there are detections of its class, since only one
    detection can match each. COCO's own flag for it would also change how overlaps are measured; an
    area that COCO leaves out does not.
    """
    flags = [COUNTED] * len(boxes)
    if boxes.shape[1] > FLAG:
        flags = boxes[:, FLAG].tolist()
    annotations = []
    for (x1, y1, x2, y2, label), flag in zip(boxes[:, :FLAG].tolist(), flags, strict=True):
        area = (x2 - x1) * (y2 - y1)
        copies = 1
        if flag in (DIFFICULT, TRAINED):
            area = 2 * MAX_AREA
            copies = int((detections[:, 5] == label).sum())
        box = {"iscrowd": int(flag == CROWD), "area": area, **_box(image, label, x1, y1, x2, y2)}
        annotations += [dict(box) for _ in range(copies)]
    return annotations


def _detections(image: int, rows: Tensor) -> list[dict[str, Any]]:
    """Return the annotations of the detections (D, 6) of an image."""
    return [
        {"score": score, **_box(image, label, x1, y1, x2, y2)}
        for x1, y1, x2, y2, score, label in rows.tolist()
    ]


def _box(image: int, label: float, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
