"""Scores of a classifier, gathered batch by batch.

Nothing is kept that grows with the number of samples without a bound, except all logits where the
user's own metrics need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from dltrain import metrics
from dltrain.tasks.calibration.scores import NUM_SUMS, Calibration, CalibrationScores
from dltrain.tasks.many_classes import MAX_WHOLE_TABLE, WORST, worst_in
from dltrain.tasks.roc_scores import RocScores
from dltrain.tasks.score_states import FLOAT_BYTES, INDEX_BYTES, PairCounts
from dltrain.types import Plot, Table, shortened

MAX_CURVES = 10  # ROC curves in a plot, as many as the eye can tell apart
MAX_AVERAGED_CURVES = 100  # ROC curves that are averaged where not all classes have one
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
    mean over `mean_classes` classes and `mean_auc` that of their areas. `calibration` compares
    probabilities with accuracy. `note` says in one line what is approximated; it is empty where all
    is exact.
    """

    figures: dict[str, float]
    confusion: Tensor
    per_class: Tensor
    curves: Tensor
    curve_classes: Tensor
    mean_curve: Tensor
    mean_classes: int
    mean_auc: float
    calibration: Calibration
    note: str = ""


class ClassificationScores:
    """Gathers logits and targets a batch at a time, in states of bounded size.

    Accuracy, top-k accuracy, precision, recall and F1 follow exactly from counts (`PairCounts`),
    the ROC AUC from probabilities (`RocScores`), exactly while the samples and classes are few, and
    the calibration from sums (`CalibrationScores`).
    `keep_logits` keeps all logits too, for metrics that need them.
    """

    def __init__(self, num_classes: int, top_k: int = 5, keep_logits: bool = False) -> None:
        self.num_classes = num_classes
        self.top_k = top_k
        self.keep_logits = keep_logits
        self.logits: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.counts = PairCounts(num_classes)
        self.roc = RocScores(num_classes)
        self.calibration = CalibrationScores()
        self.hits: Tensor | None = None  # (), samples whose class is among the top k

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch of logits (B, K) and targets (B,)."""
        self.counts.add(targets, logits.argmax(dim=1))
        self.roc.update(logits, targets)
        self.calibration.update(logits, targets)
        if self.num_classes > self.top_k:
            self._count_hits(logits, targets)
        if self.keep_logits:
            self.logits.append(logits.float())
            self.targets.append(targets)

    def _count_hits(self, logits: Tensor, targets: Tensor) -> None:
        best = logits.topk(self.top_k).indices
        if self.hits is None:
            self.hits = torch.zeros((), dtype=torch.int64, device=logits.device)
        self.hits += (best == targets.unsqueeze(1)).any(dim=1).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return what was gathered; logits are copied, as batches may be parts of a tensor."""
        state: dict[str, Any] = {
            "counts": self.counts.state_dict(),
            "roc": self.roc.state_dict(),
            "calibration": self.calibration.state_dict(),
        }
        if self.hits is not None:
            state["hits"] = self.hits
        if self.keep_logits:
            state["logits"] = torch.cat(self.logits)
            state["targets"] = torch.cat(self.targets)
        return state

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process has gathered of the batches after those of this one."""
        self.counts.merge(state["counts"])
        self.roc.merge(state["roc"])
        self.calibration.merge(state["calibration"])
        if self.hits is not None:
            self.hits += state["hits"]
        if self.keep_logits:
            self.logits.append(state["logits"])
            self.targets.append(state["targets"])

    def all_logits(self) -> tuple[Tensor, Tensor]:
        """Return all logits (N, K) and targets (N,)."""
        # The batches are dropped: beside the whole they would take its memory again.
        self.logits = [torch.cat(self.logits)]
        return self.logits[0], torch.cat(self.targets)

    def bytes(self) -> int:
        """Return the memory of the states."""
        kept = sum(tensor.nbytes for tensor in [*self.logits, *self.targets])
        return self.counts.bytes() + self.roc.bytes() + self.calibration.bytes() + kept

    def compute(self) -> Scores:
        """Return the scores over everything that was added."""
        support, predicted, correct = self.counts.by_class()
        auc = self.roc.areas()
        figures, per_class = metrics.scores_by_class(correct, support, predicted, auc)
        if self.hits is not None:
            figures[f"top{self.top_k}"] = self.hits / self.roc.rows.total_rows
        curve_classes = classes_with_curves(auc)
        averaged = self._averaged_classes(auc)
        averaged_auc = auc[averaged]
        averaged_auc = averaged_auc[averaged_auc.isfinite()]
        calibration = self.calibration.compute()
        return Scores(
            figures={
                **{name: float(value) for name, value in figures.items()},
                **calibration.figures,
            },
            confusion=self.counts.pairs(),
            per_class=per_class,
            curves=self.roc.curves(curve_classes),
            curve_classes=curve_classes,
            mean_curve=self.roc.curves(averaged).nanmean(dim=0),
            mean_classes=len(averaged_auc),
            mean_auc=float(averaged_auc.mean()),
            calibration=calibration,
            note=self._note(),
        )

    def _averaged_classes(self, auc: Tensor) -> Tensor:
        """Return the classes whose curves are averaged: all, or some of those with an AUC (K,)."""
        if self.roc.has_all_curves:
            return torch.arange(self.num_classes)
        shuffled = torch.randperm(self.num_classes, generator=torch.Generator().manual_seed(0))
        return shuffled[auc[shuffled].isfinite()][:MAX_AVERAGED_CURVES]

    def _note(self) -> str:
        """Return the line that says which scores are approximated; "" where none is."""
        notes = []
        rows = self.roc.rows
        if not self.roc.is_exact:
            notes.append(
                f"auroc compares the samples of each class with {rows.num_kept:,} of all "
                f"{rows.total_rows:,} samples, chosen at random: the probabilities of all are too "
                "many to keep"
            )
        if self.counts.lost_samples:
            notes.append(
                f"the confusion matrix leaves out {self.counts.lost_samples:,} samples of rare "
                "pairs of true and predicted class"
            )
        if notes and self.keep_logits:
            gigabytes = 1e-9 * sum(tensor.nbytes for tensor in self.logits)
            notes.append(f"metrics of your own get all logits, {gigabytes:.1f} GB of them")
        return "; ".join(notes)


def state_bytes(samples: int, num_classes: int, keep_logits: bool) -> int:
    """Return the memory of `ClassificationScores` after some samples.

    It is the most that can be: of many classes, as many pairs of classes as samples are counted.
    """
    kept = RocScores.state_bytes(samples, num_classes) + PairCounts.state_bytes(
        samples, num_classes
    )
    kept += INDEX_BYTES * NUM_SUMS
    if keep_logits:
        kept += samples * (FLOAT_BYTES * num_classes + INDEX_BYTES)
    return kept


def classes_with_curves(auc: Tensor) -> Tensor:
    """Return the classes whose ROC curves are drawn, by the AUC (K,) of each class.

    They are all that have an AUC; of more than `MAX_CURVES` classes those with the lowest.
    """
    known = auc.isfinite().nonzero().squeeze(1)
    if len(auc) <= MAX_CURVES:
        return known
    return known[auc[known].argsort(stable=True)[:MAX_CURVES]]


def confusion_table(pairs: Tensor, names: tuple[str, ...]) -> Table:
    """Return the confusion matrix of the `pairs` (P, 3) of `PairCounts`.

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
