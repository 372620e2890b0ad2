"""Word embedding: learns word vectors from running text and scores them by human judgments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.supervised import validation_split
from dltrain.types import END, PAD, Data, Embedding, LearnsWordVectors, PositiveInt, Text

NUM_SHOWN_NEIGHBORS = 8  # nearest words that an evaluation lists for a word
NUM_PREDICTED_NEIGHBORS = 20  # nearest words that a prediction returns for an input
MAX_COSINES_AT_ONCE = 2**26  # 256 MB
NUM_STOP_WORDS = 100  # the most frequent words, mostly articles and the like, are not shown
EXCLUDED_COSINE = -2.0  # below every cosine


@runtime_checkable
class JudgedVocabulary(Protocol):
    """Data with words, their frequencies, and human judgments of word pairs and analogies."""

    words: list[str]
    counts: Tensor
    similarities: dict[str, list[tuple[str, str, float]]]
    analogies: list[tuple[str, ...]]


class WordEmbedding(Task):
    """Trains a model of word vectors, which returns its loss and its number of word pairs.

    Batches are (words (N,), documents (N,)). Every evaluation computes:

    * the `loss` on held-out text;
    * for each set of word pairs of the data (`wordsim353`, `simlex999`), the rank correlation of
      cosines and human judgments;
    * `analogies`: the fraction of analogies a : b = c : ? whose answer is the word nearest to
      b - a + c (Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector
      Space", section 4).

    It shows the nearest words of `shown` frequent words, and the vectors of `points` words.

    Raises:
        ValueError: The data has no words, or the model has no word vectors.
    """

    divisible = False

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
        if not isinstance(data, JudgedVocabulary):
            raise ValueError(
                "word vectors are learned from running text: set dataset=imdb_words or words"
            )
        if not isinstance(model, LearnsWordVectors):
            raise ValueError(
                "this model has no word vectors: set model=word2vec, cbow or fasttext_vectors"
            )
        self.model: Any = model
        self.vocabulary: JudgedVocabulary = data
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.shown = shown
        self.points = points
        self.words = data.words
        self.word_ids = {word: i for i, word in enumerate(self.words) if i > END}
        model.set_vocabulary(data.words, data.counts)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
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
            held_out=validation_split(self.data),
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            replayable=True,
        )

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        directions: dict[str, Direction | None] = {"loss": "min"}
        directions.update(dict.fromkeys(self.vocabulary.similarities, "max"))
        directions["analogies"] = "max"
        return directions

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the loss over all batches, the scores of the vectors, and some of them to look at.

        Raises:
            ValueError: There are no batches.
        """
        # The same windows and negatives in every epoch; the engine restores the generators.
        torch.manual_seed(0)
        outputs = [self.model(*batch) for batch in batches]
        if not outputs:
            raise ValueError("there is nothing to evaluate: the split is empty")
        losses = torch.stack([loss for loss, _ in outputs])
        pairs = torch.stack([count for _, count in outputs])
        unit = self.unit_vectors()
        return {
            "loss": float((losses * pairs).sum() / pairs.sum().clamp(min=1)),
            **self.similarity_scores(unit),
            **self.analogy_scores(unit),
            "nearest": self.neighbor_list(unit),
            "words": self.word_points(unit),
        }

    def similarity_scores(self, unit: Tensor) -> dict[str, float]:
        """Return the rank correlation of cosines and judgments, by the name of each set of pairs.

        `unit` are the unit vectors (V, D). Pairs with unknown words are left out, and sets with
        fewer than two known pairs.
        """
        scores = {}
        for name, judged_pairs in self.vocabulary.similarities.items():
            id_pairs: list[tuple[int, int]] = []
            judgments: list[float] = []
            for first, second, judgment in judged_pairs:
                if first in self.word_ids and second in self.word_ids:
                    id_pairs.append((self.word_ids[first], self.word_ids[second]))
                    judgments.append(judgment)
            if len(id_pairs) > 1:
                ids = torch.tensor(id_pairs, device=unit.device)
                cosines = (unit[ids[:, 0]] * unit[ids[:, 1]]).sum(1).cpu()
                scores[name] = float(spearman(cosines, torch.tensor(judgments)))
        return scores

    def analogy_scores(self, unit: Tensor) -> dict[str, Any]:
        """Return the fraction of analogies that are answered correctly, and some of the answers.

        `unit` are the unit vectors (V, D). The result is empty if every question has unknown words.
        """
        questions = [
            question
            for question in self.vocabulary.analogies
            if all(word in self.word_ids for word in question)
        ]
        if not questions:
            return {}
        ids = [[self.word_ids[word] for word in question] for question in questions]
        answers = self.answer_analogies(unit, torch.tensor(ids, device=unit.device))
        num_correct = 0
        lines = []
        for answer, (a, b, c, expected) in zip(answers, questions, strict=True):
            num_correct += self.words[answer] == expected
            lines.append(f"{a} : {b} = {c} : **{self.words[answer]}**")
        return {
            "analogies": num_correct / len(questions),
            "analogies_answered": Text("\n\n".join(lines[: 2 * self.shown])),
        }

    def neighbor_list(self, unit: Tensor) -> Text:
        """Return the nearest words of some frequent words, by the unit vectors (V, D)."""
        ids = list(self.word_ids.values())
        less_frequent = ids[NUM_STOP_WORDS :: max(1, NUM_STOP_WORDS // 5)][: self.shown]
        chosen = less_frequent or ids[: self.shown]
        excluded = torch.tensor(chosen, device=unit.device).unsqueeze(1)
        _, neighbors = self.nearest(unit[chosen], unit, excluded, NUM_SHOWN_NEIGHBORS)
        lines = []
        for word_id, row in zip(chosen, neighbors.tolist(), strict=True):
            words = ", ".join(self.words[neighbor] for neighbor in row)
            lines.append(f"**{self.words[word_id]}**: {words}")
        return Text("\n\n".join(lines))

    def word_points(self, unit: Tensor) -> Embedding:
        """Return the most frequent words as points, by the unit vectors (V, D)."""
        vectors = unit[END + 1 :][: self.points]
        names = tuple(self.words[END + 1 :][: self.points])
        return Embedding(vectors.cpu(), torch.zeros(len(vectors), dtype=torch.int64), rows=names)

    def unit_vectors(self) -> Tensor:
        """Return the vectors (V, D) of all words, scaled to length 1."""
        return F.normalize(self.model.vectors(len(self.words)).float(), dim=1)

    def answer_analogies(self, unit: Tensor, questions: Tensor) -> list[int]:
        """Return the ids of the words that answer questions (Q, 4), by the unit vectors (V, D).

        The first three words of a question are not candidates; the fourth is not looked at.
        """
        answers: list[int] = []
        for block in questions.split(max(1, MAX_COSINES_AT_ONCE // len(unit))):
            a = unit[block[:, 0]]
            b = unit[block[:, 1]]
            c = unit[block[:, 2]]
            _, ids = self.nearest(b - a + c, unit, block[:, :3], 1)
            answers += ids[:, 0].tolist()
        return answers

    @staticmethod
    def nearest(
        vectors: Tensor, unit: Tensor, excluded: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Return the `count` words nearest to each of the vectors (Q, D).

        `unit` are the unit vectors (V, D) of all words; the words `excluded` (Q, W) are left out.

        Returns:
            Cosines (Q, count) and word ids (Q, count), the nearest first.
        """
        cosines = F.normalize(vectors, dim=1) @ unit.T
        cosines[:, : END + 1] = EXCLUDED_COSINE  # special tokens are not words
        cosines.scatter_(1, excluded, EXCLUDED_COSINE)
        best = cosines.topk(min(count, cosines.shape[1]), dim=1)
        return best.values, best.indices

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and ids (B, 20) of the words nearest to the words of a batch.

        The batch holds word ids (B,), or rows of them (B, T), padded with `PAD`, whose unit vectors
        are added.
        """
        words = batch if batch.ndim == 2 else batch.unsqueeze(1)
        unit = self.unit_vectors()
        is_word = (words != PAD).unsqueeze(2)
        return self.nearest((unit[words] * is_word).sum(1), unit, words, NUM_PREDICTED_NEIGHBORS)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """Return the nearest words of each input, best first."""
        cosines, ids = outputs
        rows = []
        for row_cosines, row_ids in zip(cosines.tolist(), ids.tolist(), strict=True):
            top = [
                {"word": self.words[word_id], "cosine": cosine}
                for word_id, cosine in zip(row_ids, row_cosines, strict=True)
            ]
            rows.append({**top[0], "top": top})
        return rows

    def vectors(self) -> tuple[list[str], Tensor]:
        """Return all words, and the vector of each (N, D)."""
        vectors: Tensor = self.model.vectors(len(self.words))
        return self.words[END + 1 :], vectors[END + 1 :].detach()


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation () of two vectors (N,); ties share their mean rank."""
    return torch.corrcoef(torch.stack([ranks(one), ranks(other)]))[0, 1]


def ranks(values: Tensor) -> Tensor:
    """Return the rank (N,) of each value (N,), from 1; ties share their mean rank."""
    _, positions, counts = values.unique(return_inverse=True, return_counts=True)
    last_ranks = counts.cumsum(0)  # of each distinct value, in ascending order
    mean_ranks = last_ranks - (counts - 1) / 2.0
    return mean_ranks[positions].double()
