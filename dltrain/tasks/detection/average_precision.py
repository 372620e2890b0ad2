"""Average precision of detections, by the rules of COCO's challenge, through faster_coco_eval."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from dltrain.types.boxes import CLASS, COUNTED, CROWD, DIFFICULT, FLAG, TRAINED, is_box, is_counted

MISSING = "detections are scored by faster-coco-eval: pip install faster-coco-eval"
CLASSES_AT_ONCE = 100  # that are scored together: of many classes, few are in an image
LARGEST_AREA = 1e10  # COCO leaves objects of a larger area out of the score
MEANS = {
    "map": slice(None),
    "map50": slice(0, 1),
    "map75": slice(5, 6),
}  # of the overlaps 0.5, 0.55 ... 0.95


def available() -> bool:
    return "faster_coco_eval" in sys.modules or find_spec("faster_coco_eval") is not None


def average_precision(
    detections: list[Tensor], targets: list[Tensor], num_classes: int
) -> tuple[dict[str, float], Tensor]:
    """Return {"map", "map50", "map75"} in 0..1, and AP50, AP and the number of objects of each
    class (K, 3), NaN for a class without one.

    Each image has detections (D, 6): x1, y1, x2, y2, score, class, and targets (M, 5 or 6): x1, y1,
    x2, y2, class and perhaps a flag; class -1 is no box. AP is the area under the curve of
    precision over recall; a detection is right if its overlap (intersection over union) with an
    object of its class, which no better one has taken, is at least the threshold. mAP is the mean
    over classes and over overlaps of 0.5 to 0.95, mAP50 that at 0.5 (Lin et al. 2014, "Microsoft
    COCO").

    Flagged objects are not objects to be found, and a detection of one is neither right nor wrong,
    as the rules of Pascal VOC (difficult) and COCO (crowd) say. A detection is of a difficult
    object by the overlap above, and of a crowd if that share of the detection's own area lies in
    it; any number of detections may be. An object without a flag goes first.
    """
    if not available():
        raise ImportError(MISSING)
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (rows, boxes) in enumerate(zip(detections, targets, strict=True), 1):
        rows = rows[rows[:, 5] >= 0]
        truth += _truth(image, boxes[is_box(boxes)], rows)
        for x1, y1, x2, y2, score, label in rows.tolist():
            found.append({"score": score, **_box(image, label, x1, y1, x2, y2)})
    for number, box in enumerate(truth, 1):
        box["id"] = number
    counts = torch.zeros(num_classes)
    for boxes in targets:
        counts += torch.bincount(boxes[is_counted(boxes)][:, CLASS].long(), minlength=num_classes)
    curves = torch.zeros(10, num_classes)  # AP of every overlap and class
    of_objects, of_detections = by_classes(truth), by_classes(found)
    for first in of_objects.keys() & of_detections.keys():
        classes = range(first, min(num_classes, first + CLASSES_AT_ONCE))
        curves[:, first : classes.stop] = _curves(of_objects[first], of_detections[first], classes)
    curves = torch.where(counts > 0, curves.nan_to_num(0.0), torch.nan)
    means = {name: curves[overlaps].nanmean().nan_to_num(0.0) for name, overlaps in MEANS.items()}
    scores = {name: float(value) for name, value in means.items()}
    return scores, torch.stack([curves[0], curves.mean(dim=0), counts], dim=1)


def by_classes(boxes: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return the annotations by the number of the first of the classes that are scored together."""
    found: dict[int, list[dict[str, Any]]] = {}
    for box in boxes:
        number = box["category_id"] - 1
        found.setdefault(number - number % CLASSES_AT_ONCE, []).append(box)
    return found


def _curves(truth: list[dict[str, Any]], found: list[dict[str, Any]], classes: range) -> Tensor:
    """Return the AP (10, K) of every overlap and of each of K classes, by the annotations of these
    classes.

    Time and memory are images x classes x ranges of the objects' size: only the images in which one
    of the classes is are considered, and only objects of all sizes together.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    images = sorted({box["image_id"] for boxes in (truth, found) for box in boxes})
    described = {
        "info": {},
        "images": [{"id": image} for image in images],
        "categories": [{"id": k + 1, "name": str(k)} for k in classes],
        "annotations": truth,
    }
    known = COCO(described)
    evaluation = COCOeval_faster(known, known.loadRes(found), "bbox")
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.maxDets = evaluation.params.maxDets[-1:]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = torch.as_tensor(evaluation.eval["precision"])[
        :, :, :, 0, -1
    ]  # (overlaps, recalls, classes)
    return precision.clamp_min(0).mean(dim=1).float()


def _truth(image: int, boxes: Tensor, detections: Tensor) -> list[dict[str, Any]]:
    """Return the annotations of the boxes (M, 5 or 6) of an image; of a difficult object as many as
    there are detections (D, 6) of its class, since only one can be matched with each.
    """
    flags = boxes[:, FLAG].tolist() if boxes.shape[1] > FLAG else [COUNTED] * len(boxes)
    annotations = []
    for (x1, y1, x2, y2, label), flag in zip(boxes[:, :FLAG].tolist(), flags, strict=True):
        area, copies = (x2 - x1) * (y2 - y1), 1
        if flag in (
            DIFFICULT,
            TRAINED,
        ):  # COCO's own flag would also change how overlaps are measured; the area does not
            area, copies = 2 * LARGEST_AREA, int((detections[:, 5] == label).sum())
        box = {"iscrowd": int(flag == CROWD), "area": area, **_box(image, label, x1, y1, x2, y2)}
        annotations += [dict(box) for _ in range(copies)]
    return annotations


def _box(image: int, label: float, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
