"""Embedding: learn vectors of words from running text, and score them by what people think of words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.types import END, PAD, Data, Embedding, PositiveInt, Text

NEAREST = 8  # words that are shown
CANDIDATES = 20  # that `predict` gives
COMPARED = 2**26  # cosines that are computed at once: 256 MB
FREQUENT = 100  # most frequent words, which are mostly articles and the like; the words shown come after them


@runtime_checkable
class Vectors(Protocol):
    """A model that makes vectors of words."""

    def know(self, words: Any, counts: Tensor) -> None: ...
    def vectors(self, count: int) -> Tensor: ...


@runtime_checkable
class Vocabulary(Protocol):
    """Data that says which words there are, how often, and what people think of them."""

    words: list[str]
    counts: Tensor
    similarities: dict[str, list[tuple[str, str, float]]]
    analogies: list[tuple[str, ...]]


class WordEmbedding(Task):
    """Trains a model of word vectors. Batches are (words (N,), documents (N,)); `model` gives the loss and the number of
    its pairs.

    Every evaluation gives the `loss` on held-out text, of each set of word pairs that the data has the rank correlation of
    cosines and human judgement (`wordsim353`, `simlex999`), the share of analogies a : b = c : ? answered by the word
    nearest to b - a + c (Mikolov et al. 2013, "Efficient Estimation", section 4), and shows the words nearest to `shown`
    frequent ones. ValueError for data without words and a model without vectors.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        shown: PositiveInt = 10,
        points: PositiveInt = 1000,
        watch: str = "val/loss",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(data, Vocabulary):
            raise ValueError(
                "vectors of words are learned from running text: dataset=imdb_words or words"
            )
        if not isinstance(model, Vectors):
            raise ValueError(
                "this model has no vectors of words: model=word2vec, cbow or fasttext_vectors does"
            )
        self.model: Any = model
        self.vocabulary: Vocabulary = data
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode
        self.shown, self.points = shown, points
        self.words = data.words
        model.know(data.words, data.counts)

    def stages(self) -> Iterator[Stage]:
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            loss, pairs = self.model(*batch)
            optim.update(loss, weight=pairs)
            return {"loss": Mean(loss.detach(), pairs)}

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
        correlations: dict[str, Direction | None] = dict.fromkeys(
            self.vocabulary.similarities, "max"
        )
        return {"loss": "min", **correlations, "analogies": "max"}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """The loss, and what the vectors know."""
        torch.manual_seed(
            0
        )  # the same windows and negatives in every epoch; the engine puts the generators back
        found = [self.model(*batch) for batch in batches]
        if not found:
            raise ValueError("there is nothing to evaluate: the split is empty")
        losses, counts = (torch.stack(column) for column in zip(*found, strict=True))
        unit = self.unit_vectors()
        number = {word: i for i, word in enumerate(self.words) if i > END}
        scores: dict[str, Any] = {
            "loss": float((losses * counts).sum() / counts.sum().clamp(min=1))
        }
        for name, pairs in self.vocabulary.similarities.items():
            known = [
                (number[a], number[b], score)
                for a, b, score in pairs
                if a in number and b in number
            ]
            if len(known) > 1:
                rows = torch.tensor([pair[:2] for pair in known], device=unit.device)
                cosines = (unit[rows[:, 0]] * unit[rows[:, 1]]).sum(1).cpu()
                scores[name] = float(
                    spearman(cosines, torch.tensor([score for *_, score in known]))
                )
        questions = [q for q in self.vocabulary.analogies if all(word in number for word in q)]
        if questions:
            answers = self.analogies(
                unit, torch.tensor([[number[w] for w in q] for q in questions], device=unit.device)
            )
            right = [
                self.words[i] == question[3] for i, question in zip(answers, questions, strict=True)
            ]
            scores["analogies"] = sum(right) / len(right)
            lines = [
                f"{a} : {b} = {c} : **{self.words[i]}**"
                for i, (a, b, c, _) in zip(answers, questions, strict=True)
            ]
            scores["analogies_answered"] = Text("\n\n".join(lines[: 2 * self.shown]))
        few = (
            list(number.values())[FREQUENT :: max(1, FREQUENT // 5)][: self.shown]
            or list(number.values())[: self.shown]
        )
        near = self.nearest(
            unit[few], unit, torch.tensor(few, device=unit.device).unsqueeze(1), NEAREST
        )[1]
        shown = [
            f"**{self.words[i]}**: {', '.join(self.words[k] for k in row)}"
            for i, row in zip(few, near.tolist(), strict=True)
        ]
        drawn = unit[END + 1 :][: self.points]
        names = tuple(self.words[END + 1 :][: self.points])
        points = Embedding(drawn.cpu(), torch.zeros(len(drawn), dtype=torch.int64), rows=names)
        return {**scores, "nearest": Text("\n\n".join(shown)), "words": points}

    def unit_vectors(self) -> Tensor:
        """Vectors (V, D) of length 1 of all words."""
        return F.normalize(self.model.vectors(len(self.words)).float(), dim=1)

    def analogies(self, unit: Tensor, questions: Tensor) -> list[int]:
        """The answers to questions (Q, 4); the words asked by are none."""
        answers: list[int] = []
        for some in questions.split(max(1, COMPARED // len(unit))):
            a, b, c = (unit[some[:, i]] for i in range(3))
            answers += self.nearest(b - a + c, unit, some[:, :3], 1)[1][:, 0].tolist()
        return answers

    @staticmethod
    def nearest(
        vectors: Tensor, unit: Tensor, without: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Cosines and numbers (Q, count) of the words nearest to vectors (Q, D), but for the words `without` (Q, W)."""
        cosines = F.normalize(vectors, dim=1) @ unit.T
        cosines[:, : END + 1] = -2.0  # no words
        cosines.scatter_(1, without, -2.0)
        best = cosines.topk(min(count, cosines.shape[1]), dim=1)
        return best.values, best.indices

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and numbers of the words nearest to word numbers (B,), or to the mean of each row (B, T)."""
        words = batch if batch.ndim == 2 else batch.unsqueeze(1)
        unit = self.unit_vectors()
        there = (words != PAD).unsqueeze(2)
        return self.nearest((unit[words] * there).sum(1), unit, words, CANDIDATES)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """The nearest words, best first."""
        rows = [
            [
                {"word": self.words[i], "cosine": cosine}
                for cosine, i in zip(cosines, numbers, strict=True)
            ]
            for cosines, numbers in zip(outputs[0].tolist(), outputs[1].tolist(), strict=True)
        ]
        return [{**row[0], "top": row} for row in rows]

    def vectors(self) -> tuple[list[str], Tensor]:
        """All words, and the vector (N, D) of each."""
        found: Tensor = self.model.vectors(len(self.words))
        return self.words[END + 1 :], found[END + 1 :].detach()


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of the ranks of two rows of numbers (N,); equal numbers share their mean rank."""
    return torch.corrcoef(torch.stack([ranks(one), ranks(other)]))[0, 1]


def ranks(values: Tensor) -> Tensor:
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2.0)[places].double()
