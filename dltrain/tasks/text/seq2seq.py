"""Translation: turn one sequence of tokens into another."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.losses import evaluation_sum, mean_over, training_mean
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.text.decoding import Memory, State, beam_search, greedy
from dltrain.types import (
    BEGIN,
    END,
    PAD,
    Data,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Probability,
    Table,
    Text,
)

STREAM = "teacher forcing"  # the run's generator of what training draws
SHOWN = 16  # translations
FROM_A_BATCH = 4  # of them, for batches are sorted by length
MAPS = 4  # pictures of attention
MOST_MAPPED = 40  # tokens of such a picture, either way
MISSING = "translations are scored by sacrebleu: pip install sacrebleu"
BLEU_ORDER = 4  # words of the longest n-grams that BLEU counts
SPARE = 10  # tokens that a translation may have beyond its ratio


@runtime_checkable
class Translator(Protocol):
    """A model of an encoder and a decoder; every tensor of its memory and of its state has a row for each text."""

    def encode(self, source: Tensor) -> Memory:
        """What is known of source tokens (B, S)."""

    def decode(self, memory: Memory, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, D) after each of the target tokens (B, T), and to what they attend, (B, T, S), if to anything."""

    def output(self, features: Tensor) -> Tensor:
        """Logits (..., V) of the next token."""

    def begin(self, memory: Memory) -> State: ...
    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]: ...


class Seq2Seq(Task):
    """Learns to write target sequences, given source sequences. Batches are (source tokens (B, S), target tokens (B, T) with
    their ends), both filled up with `PAD`, which costs and counts nothing.

    The loss is the mean over target tokens. Each is predicted from those before it as they should be; at a
    `teacher_forcing` below 1 each of those is with probability 1 - teacher_forcing what the model itself would have written
    (scheduled sampling, Bengio et al. 2015), which takes the steps one after the other.

    Every evaluation gives that loss, the perplexity, and of free translations BLEU and chrF by sacrebleu against the target
    texts as their tokens spell them, and the share that matches exactly; it shows some translations and, of a model
    with attention, what they attend to. Translations are greedy, or with a `beam_size` above 1 by beam search with
    `length_penalty`; they have no more tokens than `length_ratio` times the source's plus 10, and never an unknown word.
    ValueError for a model or data that is not for translation, and where sacrebleu is missing.
    """

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        teacher_forcing: Probability = 1.0,
        beam_size: PositiveInt = 1,
        length_penalty: NonNegative = 0.6,
        length_ratio: PositiveFloat = 2.0,
        watch: str = "val/bleu",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not data.spec.target_vocab_size:
            raise ValueError(
                "the data has no target texts: dataset=translation, multi30k or reversal does"
            )
        if not isinstance(model, Translator):
            raise ValueError(
                "this model has no decoder: model=seq2seq, seq2seq_attention or transformer_seq2seq does"
            )
        if "sacrebleu" not in sys.modules and find_spec("sacrebleu") is None:
            raise ValueError(MISSING)
        self.model: Any = model
        self.data, self.loss, self.optim, self.epochs, self.watch, self.mode = (
            data,
            loss,
            optim,
            epochs,
            watch,
            mode,
        )
        self.teacher_forcing, self.beam_size, self.length_penalty = (
            teacher_forcing,
            beam_size,
            length_penalty,
        )
        self.length_ratio = length_ratio
        self.entropy = nn.CrossEntropyLoss()  # what the perplexity is of, whatever is trained on

    def stages(self) -> Iterator[Stage]:
        if self.teacher_forcing < 1:
            rng.torch_stream(STREAM, next(self.model.parameters()).device)
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            logits, truth = self.logits(*batch)
            value, weight = training_mean(self.loss, logits, truth)
            optim.update(value, weight=weight)
            return {"loss": Mean(value.detach(), weight)}

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

    def logits(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, V) for all target tokens of a batch but those of the padding, and the tokens (N,)."""
        memory = self.model.encode(source)
        inputs, truth = target[:, :-1], target[:, 1:]
        kept = truth != PAD
        if self.training and self.teacher_forcing < 1:
            return self.sampled(memory, inputs)[kept], truth[kept]
        features, _ = self.model.decode(memory, inputs)
        return self.model.output(features[kept]), truth[kept]

    def sampled(self, memory: Memory, inputs: Tensor) -> Tensor:
        """Logits (B, T, V) where some of the `inputs` (B, T) are replaced by what the model would have written."""
        generator = rng.torch_stream(STREAM, inputs.device)
        forced = (
            torch.rand(inputs.shape, device=inputs.device, generator=generator)
            < self.teacher_forcing
        )
        state, tokens = self.model.begin(memory), inputs[:, 0]
        found: list[Tensor] = []
        for t in range(inputs.shape[1]):
            if t:
                tokens = torch.where(forced[:, t], inputs[:, t], found[-1].detach().argmax(1))
            logits, state = self.model.step(tokens, state, memory)
            found.append(logits)
        return torch.stack(found, dim=1)

    def translate(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) of the translations, up to the end's and filled up with `PAD`, and their log-probabilities (B,)."""
        if torch.jit.is_tracing():  # the trace would be of as many steps as these very texts took
            raise ValueError(
                "a search for a translation goes on until all have ended: it has no fixed graph"
            )
        lengths = (source != PAD).sum(1)
        limits = (
            (lengths * self.length_ratio + SPARE).long().clamp(max=self.data.spec.target_length - 1)
        )
        memory = self.model.encode(source)
        if self.beam_size == 1:
            return greedy(self.model, memory, limits)
        return beam_search(self.model, memory, limits, self.beam_size, self.length_penalty)

    def directions(self) -> dict[str, Direction | None]:
        return {
            "loss": "min",
            "perplexity": "min",
            "bleu": "max",
            "chrf": "max",
            "exact_match": "max",
        }

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Scores of known and of free translations, and some of the latter to look at."""
        losses: list[Tensor] = []
        entropies: list[Tensor] = []
        exact = 0
        hypotheses: list[str] = []
        references: list[str] = []
        shown: list[tuple[list[int], list[int], list[int]]] = []
        for source, target in batches:
            logits, truth = self.logits(source, target)
            losses.append(evaluation_sum(self.loss, logits, truth))
            entropies.append(evaluation_sum(self.entropy, logits.float(), truth))
            del logits  # of a large vocabulary, two batches' would take twice the memory
            found = [words(row) for row in self.translate(source)[0].tolist()]
            wanted = [words(row[1:]) for row in target.tolist()]
            exact += sum(a == b for a, b in zip(found, wanted, strict=True))
            hypotheses += map(self.spell, found)
            references += map(self.spell, wanted)
            sources = [words(row) for row in source[:FROM_A_BATCH].tolist()]
            shown += zip(sources, wanted, found, strict=False)
        if not losses:
            raise ValueError("there is nothing to evaluate: the split is empty")
        spread = shown[:: math.ceil(len(shown) / SHOWN)]
        return {
            "loss": mean_over(losses),
            "perplexity": math.exp(min(mean_over(entropies), 100)),
            **overlap(hypotheses, references),
            "exact_match": exact / len(references),
            "translations": self.listed(spread),
            **self.maps([(source, found) for source, _, found in spread]),
        }

    def spell(self, tokens: list[int]) -> str:
        decode = self.data.spec.decode_target
        return decode(tokens) if decode else " ".join(map(str, tokens))

    def read(self, tokens: list[int]) -> str:
        decode = self.data.spec.decode
        return decode(tokens) if decode else " ".join(map(str, tokens))

    def listed(self, shown: list[tuple[list[int], list[int], list[int]]]) -> Text:
        """A table of sources, references and translations."""
        rows = [
            (self.read(source), self.spell(wanted), self.spell(found))
            for source, wanted, found in shown
        ]
        lines = [("source", "reference", "translation"), ("---", "---", "---"), *rows]
        cells = [[" ".join(text.split()).replace("|", "\\|") for text in line] for line in lines]
        return Text("\n".join(f"| {' | '.join(line)} |" for line in cells))

    def maps(self, shown: list[tuple[list[int], list[int]]]) -> dict[str, Table]:
        """To what share, in percent, each token of some translations attends to each of its source's."""
        device = next(self.model.parameters()).device
        fitting = [pair for pair in shown if max(map(len, pair)) < MOST_MAPPED]
        found: dict[str, Table] = {}
        for source, written in fitting[:: math.ceil(max(1, len(fitting)) / MAPS)]:
            memory = self.model.encode(torch.tensor([source], device=device))
            _, weights = self.model.decode(memory, torch.tensor([[BEGIN, *written]], device=device))
            if weights is None:
                return {}
            rows = tuple(f"{self.spell([token])} " for token in written)
            columns = tuple(f"{self.read([token])} " for token in source)
            percent = (weights[0].float() * 100).round().long().cpu()
            found[f"attention_{len(found) + 1}"] = Table(
                percent, (*rows, "end"), columns, "written", "read"
            )
        return found

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The translations of source tokens (B, S): tokens (B, T), and their log-probabilities (B,)."""
        return self.translate(batch)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """The translation of each text, and its log-probability."""
        pairs = zip(outputs[0].tolist(), outputs[1].tolist(), strict=True)
        return [
            {"translation": self.spell(words(row)), "log_probability": score}
            for row, score in pairs
        ]


def words(row: list[int]) -> list[int]:
    """The tokens before the end's, or before the padding."""
    return row[: next((i for i, token in enumerate(row) if token in (END, PAD)), len(row))]


def overlap(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """Return BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of a corpus, 0..100.

    BLEU counts n-grams of one to four words. Where no reference has four, it counts those that the
    longest one has: with n-grams that no text can have the score of every corpus would be 0. Both
    scores of a corpus that is exactly its references are 100, also where all of them are empty.
    ImportError where sacrebleu is missing.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as e:
        raise ImportError(MISSING) from e
    if hypotheses == references:
        return {"bleu": 100.0, "chrf": 100.0}
    tokenize = BLEU().tokenizer
    order = 1
    for reference in references:
        order = max(order, min(BLEU_ORDER, len(tokenize(reference).split())))
        if order == BLEU_ORDER:
            break
    bleu = BLEU(force=True, max_ngram_order=order)
    return {
        "bleu": float(bleu.corpus_score(hypotheses, [references]).score),
        "chrf": float(CHRF().corpus_score(hypotheses, [references]).score),
    }
