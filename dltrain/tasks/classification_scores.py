"""Scores of a classifier, gathered batch by batch: with many classes nothing of size classes x
classes is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from dltrain import metrics
from dltrain.tasks.many_classes import MAX_WHOLE_TABLE, WORST, worst_in
from dltrain.types import Plot, Table, shortened

MAX_DENSE_CLASSES = (
    1000  # with more, a split's probabilities are kept only as far as KEPT_VALUES goes
)
KEPT_VALUES = 2**26  # probabilities that are kept for the ROC AUC: 256 MB
COMPARED_VALUES = 2**22  # probabilities that are compared at once
MAX_CURVES = 10  # ROC curves that can be told apart
MEAN_OF_CURVES = (
    100  # classes that the mean ROC curve is taken over where there are more than MAX_DENSE_CLASSES
)
OTHERS = "other classes"
RATES = (-0.02, 1.02)  # of both axes of a ROC curve, so that one along the border is seen


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation over N samples of K classes.

    `figures` are numbers by name. `confusion` (P, 3) has a row for each pair that occurs: true
    class, predicted class, number of samples. `per_class` (K, 5) has the columns
    `metrics.PER_CLASS`, NaN where a class has no AUC. `curves` (M, P) are the ROC curves of
    `curve_classes` (M,), at most `MAX_CURVES`, of more classes the worst; `mean_curve` (P,) is the
    mean over `mean_classes` classes and `mean_auc` that of their areas. `note` says in one line
    what is approximated; it is empty where all is exact.
    """

    figures: dict[str, float]
    confusion: Tensor
    per_class: Tensor
    curves: Tensor
    curve_classes: Tensor
    mean_curve: Tensor
    mean_classes: int
    mean_auc: float
    note: str = ""


class ClassificationScores:
    """Gathers what the scores of a split need, a batch at a time.

    Up to `MAX_DENSE_CLASSES` classes all logits are kept. With more classes, the predicted classes
    and top-k hits are kept, from which accuracy, top-k accuracy, precision, recall and F1 follow
    exactly; and probabilities for the ROC AUC: those of all classes while they are at most
    `KEPT_VALUES` numbers, else those of a random sample of the classes (the same in every
    evaluation), halved until they fit. The AUC of each sampled class is exact. `keep_logits` keeps
    all logits in any case, for metrics that need them.
    """

    def __init__(self, num_classes: int, top_k: int = 5, keep_logits: bool = False) -> None:
        self.num_classes = num_classes
        self.top_k = top_k
        self.dense = num_classes <= MAX_DENSE_CLASSES
        self.keep_logits = keep_logits or self.dense
        self.samples = 0
        self.logits: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.predictions: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.probabilities: list[Tensor] = []  # of the classes `sampled`, a column each
        self.sampled = torch.randperm(num_classes, generator=torch.Generator().manual_seed(0))

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (B, K) and targets (B,)."""
        self.samples += len(targets)
        self.targets.append(targets)
        if self.keep_logits:
            self.logits.append(logits.float())
        if not self.dense:
            self._count(logits, targets)
            self._keep_probabilities(logits)

    def _count(self, logits: Tensor, targets: Tensor) -> None:
        self.predictions.append(logits.argmax(dim=1))
        best = logits.topk(min(self.top_k, self.num_classes)).indices
        self.hits.append((best == targets.unsqueeze(1)).any(dim=1).sum())

    def _keep_probabilities(self, logits: Tensor) -> None:
        while self.samples * len(self.sampled) > KEPT_VALUES and len(self.sampled) > 1:
            self.sampled = self.sampled[: len(self.sampled) // 2]
            self.probabilities = [
                part[:, : len(self.sampled)].clone() for part in self.probabilities
            ]
        self.probabilities.append(logits.float().softmax(dim=1)[:, self.sampled.to(logits.device)])

    def all_logits(self) -> tuple[Tensor, Tensor]:
        """Return all logits (N, K) and targets (N,)."""
        self.logits = [
            torch.cat(self.logits)
        ]  # the batches go: kept beside it, they would take as much again
        return self.logits[0], torch.cat(self.targets)

    def compute(self) -> Scores:
        """Return the scores over everything that was added."""
        return self._from_logits() if self.dense else self._from_counts()

    def _from_logits(self) -> Scores:
        found = metrics.classification(*self.all_logits(), self.top_k)
        confusion, per_class, curves = (
            found.pop(name).cpu() for name in ("confusion", "per_class", "roc")
        )
        pairs = confusion.nonzero()
        known = per_class[:, 3].isfinite()
        chosen = drawn_classes(per_class[:, 3])
        return Scores(
            figures={name: float(value) for name, value in found.items()},
            confusion=torch.cat([pairs, confusion[pairs[:, :1], pairs[:, 1:]]], dim=1),
            per_class=per_class,
            curves=curves[chosen],
            curve_classes=chosen,
            mean_curve=curves.nanmean(dim=0),
            mean_classes=int(known.sum()),
            mean_auc=float(per_class[known, 3].mean()),
        )

    def _from_counts(self) -> Scores:
        targets = torch.cat(self.targets).cpu()
        predictions = torch.cat(self.predictions).cpu()
        auc = torch.full((self.num_classes,), torch.nan)
        auc[self.sampled] = areas_under_curves(self.probabilities, targets, self.sampled).float()
        counted = [torch.bincount(c, minlength=self.num_classes) for c in (targets, predictions)]
        right = torch.bincount(targets[targets == predictions], minlength=self.num_classes)
        figures, per_class = metrics.scores_by_class(right, counted[0], counted[1], auc)
        if self.num_classes > self.top_k:
            figures[f"top{self.top_k}"] = torch.stack(self.hits).sum() / self.samples
        chosen = drawn_classes(auc)
        averaged = self.sampled[auc[self.sampled].isfinite()][:MEAN_OF_CURVES]
        return Scores(
            figures={name: float(value) for name, value in figures.items()},
            confusion=pairs_of(targets, predictions, self.num_classes),
            per_class=per_class,
            curves=self._curves(chosen, targets),
            curve_classes=chosen,
            mean_curve=self._curves(averaged, targets).mean(dim=0),
            mean_classes=len(averaged),
            mean_auc=float(auc[averaged].mean()),
            note=self._note(auc),
        )

    def _curves(self, classes: Tensor, targets: Tensor) -> Tensor:
        """Return the ROC curves (M, P) of some of the sampled classes (M,)."""
        if not len(classes):
            return torch.zeros(0, metrics.ROC_POINTS)
        columns = places(classes, self.sampled, self.num_classes)
        probabilities = torch.cat([part[:, columns.to(part.device)] for part in self.probabilities])
        renumbered = places(targets, classes, self.num_classes).to(probabilities.device)
        return metrics.roc_curves(probabilities, renumbered)[0].cpu()

    def _note(self, auc: Tensor) -> str:
        if len(self.sampled) == self.num_classes:
            return ""
        kept = ""
        if self.keep_logits:
            size = 4e-9 * self.samples * self.num_classes
            kept = f"; metrics of your own get all logits, {size:.1f} GB of them"
        return (
            f"auroc is the mean over {int(auc.isfinite().sum()):,} of {self.num_classes:,} classes, chosen at random: "
            f"the probabilities of all classes for {self.samples:,} samples are too many to keep{kept}"
        )


def drawn_classes(auc: Tensor) -> Tensor:
    """Return the classes whose ROC curves are drawn: all that have one, or of too many those of the
    lowest AUC (K,).
    """
    known = auc.isfinite().nonzero().squeeze(1)
    if len(auc) <= MAX_CURVES:
        return known
    return known[auc[known].argsort(stable=True)[:MAX_CURVES]]


def areas_under_curves(parts: list[Tensor], targets: Tensor, classes: Tensor) -> Tensor:
    """Return the exact area under the ROC curve (M,) of each of some classes (M,) against the rest,
    in doubles.

    `parts` are the probabilities (B, M) of these classes in batches, `targets` (N,) the true
    classes of all samples. The area is the share of pairs of a sample of the class and one of the
    rest in which the former has the higher probability; equal ones count half (Hanley and McNeil
    1982). It is NaN for a class without samples, or with nothing else.
    """
    count = len(targets)
    column = places(targets, classes, int(max(targets.max(), classes.max())) + 1)
    samples = column.argsort(stable=True)[
        int((column < 0).sum()) :
    ]  # those of these classes, class by class
    sizes = torch.bincount(column[samples], minlength=len(classes))
    starts = sizes.cumsum(0) - sizes
    areas = torch.full((len(classes),), torch.nan, dtype=torch.float64)
    scored = ((sizes > 0) & (sizes < count)).nonzero().squeeze(1)
    scored = scored[
        sizes[scored].argsort(stable=True)
    ]  # rows of one block are padded to the largest of its classes
    for block in scored.split(max(1, COMPARED_VALUES // count)) if len(scored) else ():
        size = sizes[block]
        offsets = torch.arange(int(size.max()))
        members = samples[(starts[block].unsqueeze(1) + offsets).clamp(max=len(samples) - 1)]
        missing = offsets >= size.unsqueeze(1)
        device = parts[0].device
        probabilities = torch.cat(
            [part[:, block.to(device)] for part in parts]
        ).T.contiguous()  # (block, N)
        positives = (
            probabilities.gather(1, members.to(device))
            .masked_fill(missing.to(device), torch.inf)
            .sort(1)
            .values
        )
        below = torch.searchsorted(positives, probabilities).sum(dim=1)
        below = below + torch.searchsorted(positives, probabilities, right=True).sum(
            dim=1
        )  # twice: ties count half
        twice = (
            2 * size * count - below.cpu() - size.square()
        )  # won pairs, without those of two samples of the class
        areas[block] = twice.double() / (2 * size * (count - size)).double()
    return areas


def places(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Return where each of `values` (N,), numbers below `count`, stands in `among` (M,); -1 where
    it does not.
    """
    table = torch.full((count,), -1)
    table[among] = torch.arange(len(among))
    return table[values]


def pairs_of(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Return (P, 3): each pair of true and predicted class that occurs, and how often."""
    codes, counts = (targets * num_classes + predictions).unique(return_counts=True)
    return torch.stack([codes // num_classes, codes % num_classes, counts], dim=1)


def confusion_table(pairs: Tensor, names: tuple[str, ...]) -> Table:
    """Return the confusion matrix as a table; of many classes that of those with the most mistakes
    and of all others.
    """
    count = len(names)
    titles = ("true class", "predicted class")
    true, predicted, samples = pairs.unbind(dim=1)
    if count <= MAX_WHOLE_TABLE:
        values = torch.zeros(count, count, dtype=torch.int64)
        values[true, predicted] = samples
        return Table(values, names, names, *titles)
    wrong = torch.where(true == predicted, 0, samples)
    mistakes = (
        torch.zeros(count, dtype=torch.int64)
        .index_add(0, true, wrong)
        .index_add(0, predicted, wrong)
    )
    worst = mistakes.argsort(descending=True, stable=True)[:WORST]
    size = len(worst) + 1
    place = torch.full((count,), len(worst))
    place[worst] = torch.arange(len(worst))
    cells = place[true] * size + place[predicted]
    values = (
        torch.zeros(size * size, dtype=torch.int64).index_add(0, cells, samples).view(size, size)
    )
    shown = (*(names[k] for k in worst.tolist()), OTHERS)
    note = f"the {len(worst)} of {count:,} classes with the most mistakes; the others together, right and wrong"
    return Table(values, shown, shown, *titles, note=note)


def per_class_table(per_class: Tensor, names: tuple[str, ...]) -> Table:
    """Return the scores of each class as a table; of many classes it says which are the worst."""
    table = Table(per_class, names, metrics.PER_CLASS, "class", "score", plain=("support",))
    return worst_in(table, "f1", "support")


def roc_plot(scores: Scores, names: tuple[str, ...]) -> Plot:
    """Return the ROC curves of the classes, or of many those of the lowest AUC, and the mean over
    classes.
    """
    xs = metrics.false_positive_rates().tolist()
    lines = {}
    for k, curve in zip(scores.curve_classes.tolist(), scores.curves, strict=True):
        area = float(scores.per_class[k, metrics.PER_CLASS.index("roc auc")])
        lines[f"{shortened(names[k])} (AUC {area:.3f})"] = (xs, curve.tolist())
    title = "no ROC: all samples are of one class"
    if lines:
        title = "ROC: one class against the rest"
        mean = "mean of all classes"
        if scores.mean_classes < len(names):
            mean = f"mean of {scores.mean_classes:,} of {len(names):,} classes"
        lines[f"{mean} (AUC {scores.mean_auc:.3f})"] = (xs, scores.mean_curve.tolist())
    if len(names) > MAX_CURVES and lines:
        title = f"ROC of the {len(lines) - 1} worst of {len(names):,} classes (lowest AUC)"
    return Plot(
        lines,
        title,
        "false positive rate",
        "true positive rate",
        square=True,
        range=RATES,
        diagonal="chance (AUC 0.500)",
    )


class Ranking(Sequence[dict[str, Any]]):
    """The classes of one sample, the likeliest first: {"class": name, "probability": p}.

    An entry is made when it is asked for: a list of all of 20,000 classes for each of many samples
    would fill the memory.
    """

    def __init__(self, names: Sequence[str], classes: Tensor, probabilities: Tensor) -> None:
        self.names = names
        self.classes = classes  # (K,), the likeliest first
        self.probabilities = probabilities  # (K,), falling

    def __len__(self) -> int:
        return len(self.classes)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, int):
            return self._entry(int(self.classes[index]), float(self.probabilities[index]))
        pairs = zip(self.classes[index].tolist(), self.probabilities[index].tolist(), strict=True)
        return [self._entry(k, p) for k, p in pairs]

    def _entry(self, k: int, probability: float) -> dict[str, Any]:
        return {"class": self.names[k], "probability": probability}
