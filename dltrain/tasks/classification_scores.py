"""Scores of a classifier, gathered batch by batch.

With many classes nothing of the size (classes, classes) or (samples, classes) is kept.
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

MAX_DENSE_CLASSES = 1000  # of more classes, at most MAX_KEPT_VALUES probabilities are kept
MAX_KEPT_VALUES = 2**26  # probabilities that are kept for the ROC AUC: 256 MB
MAX_COMPARED_VALUES = 2**22  # probabilities that are compared at once
MAX_CURVES = 10  # ROC curves in a plot, as many as the eye can tell apart
MAX_AVERAGED_CURVES = 100  # ROC curves that are averaged where not all classes are dense
OTHER_CLASSES = "other classes"
AUC = metrics.PER_CLASS.index("roc auc")  # column of the scores of each class
ROC_AXIS = (-0.02, 1.02)  # range of both axes, so that a curve along the border is seen


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
    """Gathers logits and targets a batch at a time, as far as the scores of a split need them.

    Up to `MAX_DENSE_CLASSES` classes all logits are kept. With more classes, the predicted classes
    and top-k hits are kept, from which accuracy, top-k accuracy, precision, recall and F1 follow
    exactly; and probabilities for the ROC AUC: those of all classes while they are at most
    `MAX_KEPT_VALUES` numbers, else those of a random sample of the classes (the same in every
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
        while self.samples * len(self.sampled) > MAX_KEPT_VALUES and len(self.sampled) > 1:
            half = len(self.sampled) // 2
            self.sampled = self.sampled[:half]
            self.probabilities = [part[:, :half].clone() for part in self.probabilities]
        columns = self.sampled.to(logits.device)
        self.probabilities.append(logits.float().softmax(dim=1)[:, columns])

    def all_logits(self) -> tuple[Tensor, Tensor]:
        """Return all logits (N, K) and targets (N,)."""
        # The batches are dropped: beside the whole they would take its memory again.
        self.logits = [torch.cat(self.logits)]
        return self.logits[0], torch.cat(self.targets)

    def compute(self) -> Scores:
        """Return the scores over everything that was added."""
        if self.dense:
            return self._from_logits()
        return self._from_counts()

    def _from_logits(self) -> Scores:
        figures = metrics.classification(*self.all_logits(), self.top_k)
        confusion = figures.pop("confusion").cpu()  # (K, K)
        per_class = figures.pop("per_class").cpu()  # (K, 5)
        curves = figures.pop("roc").cpu()  # (K, P)
        auc = per_class[:, AUC]
        pairs = confusion.nonzero()
        counts = confusion[pairs[:, :1], pairs[:, 1:]]
        has_auc = auc.isfinite()
        curve_classes = classes_with_curves(auc)
        return Scores(
            figures={name: float(value) for name, value in figures.items()},
            confusion=torch.cat([pairs, counts], dim=1),
            per_class=per_class,
            curves=curves[curve_classes],
            curve_classes=curve_classes,
            mean_curve=curves.nanmean(dim=0),
            mean_classes=int(has_auc.sum()),
            mean_auc=float(per_class[has_auc, AUC].mean()),
        )

    def _from_counts(self) -> Scores:
        targets = torch.cat(self.targets).cpu()
        predictions = torch.cat(self.predictions).cpu()
        auc = torch.full((self.num_classes,), torch.nan)
        auc[self.sampled] = areas_under_curves(self.probabilities, targets, self.sampled).float()
        support = torch.bincount(targets, minlength=self.num_classes)
        predicted = torch.bincount(predictions, minlength=self.num_classes)
        correct = torch.bincount(targets[targets == predictions], minlength=self.num_classes)
        figures, per_class = metrics.scores_by_class(correct, support, predicted, auc)
        if self.num_classes > self.top_k:
            figures[f"top{self.top_k}"] = torch.stack(self.hits).sum() / self.samples
        curve_classes = classes_with_curves(auc)
        averaged = self.sampled[auc[self.sampled].isfinite()][:MAX_AVERAGED_CURVES]
        return Scores(
            figures={name: float(value) for name, value in figures.items()},
            confusion=class_pairs(targets, predictions, self.num_classes),
            per_class=per_class,
            curves=self._curves(curve_classes, targets),
            curve_classes=curve_classes,
            mean_curve=self._curves(averaged, targets).mean(dim=0),
            mean_classes=len(averaged),
            mean_auc=float(auc[averaged].mean()),
            note=self._note(auc),
        )

    def _curves(self, classes: Tensor, targets: Tensor) -> Tensor:
        """Return the ROC curves (M, P) of some of the sampled classes (M,)."""
        if not len(classes):
            return torch.zeros(0, metrics.ROC_POINTS)
        columns = positions(classes, self.sampled, self.num_classes)
        probabilities = torch.cat([part[:, columns.to(part.device)] for part in self.probabilities])
        renumbered = positions(targets, classes, self.num_classes).to(probabilities.device)
        return metrics.roc_curves(probabilities, renumbered)[0].cpu()

    def _note(self, auc: Tensor) -> str:
        """Return the line that says which scores are approximated; "" where none is."""
        if len(self.sampled) == self.num_classes:
            return ""
        scored_classes = int(auc.isfinite().sum())
        note = (
            f"auroc is the mean over {scored_classes:,} of {self.num_classes:,} classes, chosen at "
            f"random: the probabilities of all classes for {self.samples:,} samples are too many "
            "to keep"
        )
        if self.keep_logits:
            gigabytes = 4e-9 * self.samples * self.num_classes
            note += f"; metrics of your own get all logits, {gigabytes:.1f} GB of them"
        return note


def classes_with_curves(auc: Tensor) -> Tensor:
    """Return the classes whose ROC curves are drawn, by the AUC (K,) of each class.

    They are all that have an AUC; of more than `MAX_CURVES` classes those with the lowest.
    """
    known = auc.isfinite().nonzero().squeeze(1)
    if len(auc) <= MAX_CURVES:
        return known
    return known[auc[known].argsort(stable=True)[:MAX_CURVES]]


def areas_under_curves(parts: list[Tensor], targets: Tensor, classes: Tensor) -> Tensor:
    """Return the exact areas (M,) under the ROC curves of classes (M,) against the rest, in fp64.

    `parts` are the probabilities (B, M) of these classes in batches, `targets` (N,) the true
    classes of all samples. The area is the share of pairs of a sample of the class and one of the
    rest in which the former has the higher probability; equal ones count half (Hanley and McNeil
    1982). It is NaN for a class without samples, or with nothing else.
    """
    num_samples = len(targets)
    column = positions(targets, classes, int(max(targets.max(), classes.max())) + 1)  # (N,)
    num_others = int((column < 0).sum())
    samples = column.argsort(stable=True)[num_others:]  # of these classes, class by class
    sizes = torch.bincount(column[samples], minlength=len(classes))
    starts = sizes.cumsum(0) - sizes
    areas = torch.full((len(classes),), torch.nan, dtype=torch.float64)
    scored = ((sizes > 0) & (sizes < num_samples)).nonzero().squeeze(1)
    if not len(scored):
        return areas
    # Classes of similar size share a block, since its rows are padded to the largest class.
    scored = scored[sizes[scored].argsort(stable=True)]
    device = parts[0].device
    for block in scored.split(max(1, MAX_COMPARED_VALUES // num_samples)):
        size = sizes[block]
        offsets = torch.arange(int(size.max()))
        members = samples[(starts[block].unsqueeze(1) + offsets).clamp(max=len(samples) - 1)]
        padding = offsets >= size.unsqueeze(1)
        columns = [part[:, block.to(device)] for part in parts]
        probabilities = torch.cat(columns).T.contiguous()  # (block, N)
        positives = probabilities.gather(1, members.to(device))
        positives = positives.masked_fill(padding.to(device), torch.inf).sort(1).values
        # The positives below each sample are counted twice, ties once.
        below = torch.searchsorted(positives, probabilities).sum(dim=1)
        below = below + torch.searchsorted(positives, probabilities, right=True).sum(dim=1)
        # Twice the won pairs, without the pairs of two samples of the class.
        twice_won = 2 * size * num_samples - below.cpu() - size.square()
        areas[block] = twice_won.double() / (2 * size * (num_samples - size)).double()
    return areas


def positions(values: Tensor, among: Tensor, count: int) -> Tensor:
    """Return the position of each of `values` (N,) in `among` (M,), -1 where it is not there.

    All are numbers below `count`.
    """
    table = torch.full((count,), -1)
    table[among] = torch.arange(len(among))
    return table[values]


def class_pairs(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Return (P, 3): each pair of true and predicted class that occurs, and its count."""
    codes, counts = (targets * num_classes + predictions).unique(return_counts=True)
    return torch.stack([codes // num_classes, codes % num_classes, counts], dim=1)


def confusion_table(pairs: Tensor, names: tuple[str, ...]) -> Table:
    """Return the confusion matrix of the `pairs` (P, 3) of `class_pairs`.

    Of more than `MAX_WHOLE_TABLE` classes it has those with the most mistakes, and one row and
    column for all others.
    """
    num_classes = len(names)
    titles = ("true class", "predicted class")
    true, predicted, samples = pairs.unbind(dim=1)
    if num_classes <= MAX_WHOLE_TABLE:
        values = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        values[true, predicted] = samples
        return Table(values, names, names, *titles)
    wrong = torch.where(true == predicted, 0, samples)
    mistakes = torch.zeros(num_classes, dtype=torch.int64)
    mistakes = mistakes.index_add(0, true, wrong).index_add(0, predicted, wrong)
    worst = mistakes.argsort(descending=True, stable=True)[:WORST]
    size = len(worst) + 1
    place = torch.full((num_classes,), len(worst))  # the last place is that of all others
    place[worst] = torch.arange(len(worst))
    cells = place[true] * size + place[predicted]
    counts = torch.zeros(size * size, dtype=torch.int64).index_add(0, cells, samples)
    shown = (*(names[k] for k in worst.tolist()), OTHER_CLASSES)
    note = (
        f"the {len(worst)} of {num_classes:,} classes with the most mistakes; the others together, "
        "right and wrong"
    )
    return Table(counts.view(size, size), shown, shown, *titles, note=note)


def per_class_table(per_class: Tensor, names: tuple[str, ...]) -> Table:
    """Return the scores of each class as a table; of many classes it says which are the worst."""
    table = Table(per_class, names, metrics.PER_CLASS, "class", "score", plain=("support",))
    return worst_in(table, "f1", "support")


def roc_plot(scores: Scores, names: tuple[str, ...]) -> Plot:
    """Return a plot of the ROC curves of `scores`, and of the mean over classes."""
    xs = metrics.false_positive_rates().tolist()
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for k, curve in zip(scores.curve_classes.tolist(), scores.curves, strict=True):
        area = float(scores.per_class[k, AUC])
        lines[f"{shortened(names[k])} (AUC {area:.3f})"] = (xs, curve.tolist())
    num_curves = len(lines)
    if num_curves:
        mean = "mean of all classes"
        if scores.mean_classes < len(names):
            mean = f"mean of {scores.mean_classes:,} of {len(names):,} classes"
        lines[f"{mean} (AUC {scores.mean_auc:.3f})"] = (xs, scores.mean_curve.tolist())
    return Plot(
        lines,
        roc_title(num_curves, len(names)),
        "false positive rate",
        "true positive rate",
        square=True,
        range=ROC_AXIS,
        diagonal="chance (AUC 0.500)",
    )


def roc_title(num_curves: int, num_classes: int) -> str:
    """Return the title of a plot with the ROC curves of some classes."""
    if not num_curves:
        return "no ROC: all samples are of one class"
    if num_classes > MAX_CURVES:
        return f"ROC of the {num_curves} worst of {num_classes:,} classes (lowest AUC)"
    return "ROC: one class against the rest"


class Ranking(Sequence[dict[str, Any]]):
    """The classes of one sample, the likeliest first: {"class": name, "probability": p}.

    An entry is made when it is read: for many samples of 20,000 classes, lists of all entries would
    fill the memory.
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
