"""Translation: learn to turn one sequence of tokens into another."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.losses import BatchSums, evaluation_sum, mean_over, training_mean, weighted_mean
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.noise import uniform
from dltrain.tasks.supervised import validation_split
from dltrain.tasks.text.decoding import beam_search, greedy
from dltrain.types import (
    BEGIN,
    END,
    PAD,
    Data,
    EncoderDecoder,
    EncoderOutput,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Probability,
    Table,
    Text,
)
from dltrain.types.combining import combined

STREAM = "teacher forcing"  # the run's generator of training's draws
SHOWN_TRANSLATIONS = 16
SHOWN_OF_A_BATCH = 4  # few, since batches are sorted by length
ATTENTION_PICTURES = 4
MAX_PICTURED_TOKENS = 40  # of the source or the translation in a picture of attention
MAX_LOG_PERPLEXITY = 100
MISSING = "translations are scored by sacrebleu: pip install sacrebleu"
BLEU_ORDER = 4  # words of the longest n-grams that BLEU counts
SPARE_TOKENS = 10  # that a translation may have beyond its ratio


@dataclass(frozen=True)
class TranslatedSample:
    """A source sequence, its reference and the model's translation, as token numbers."""

    source: list[int]
    reference: list[int]
    written: list[int]


class TranslationScores:
    """The translations of a split, and the sums from which the other scores follow."""

    def __init__(self) -> None:
        self.losses = BatchSums()  # (2,): see `evaluation_sum`
        self.entropies = BatchSums()  # (2,)
        self.exact = 0
        self.hypotheses: list[str] = []
        self.references: list[str] = []
        self.shown: list[TranslatedSample] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the translations and the sums."""
        return {
            "losses": self.losses.state_dict(),
            "entropies": self.entropies.state_dict(),
            "exact": self.exact,
            "hypotheses": self.hypotheses,
            "references": self.references,
            "shown": [(shown.source, shown.reference, shown.written) for shown in self.shown],
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the translations of another part of the split, which comes after this one."""
        self.losses.merge(state["losses"])
        self.entropies.merge(state["entropies"])
        self.exact += state["exact"]
        self.hypotheses += state["hypotheses"]
        self.references += state["references"]
        self.shown += itertools.starmap(TranslatedSample, state["shown"])


class Seq2Seq(Task):
    """Learns to write target sequences for source sequences.

    Batches are (source tokens (B, S), target tokens (B, T) with their ends), both padded with
    `PAD`, which the loss and the scores leave out. The loss is the mean over target tokens. Each is
    predicted from the target tokens before it; with `teacher_forcing` below 1, each of those is
    replaced with probability 1 - teacher_forcing by the model's own prediction (scheduled sampling,
    Bengio et al. 2015), which takes the steps one after the other.

    Every evaluation gives the loss, the perplexity, BLEU and chrF by sacrebleu of free translations
    against the decoded target texts, and the fraction that matches exactly. It shows some
    translations and, of a model with attention, attention weights. Translations are greedy, or by
    beam search with a `beam_size` above 1 and `length_penalty`. They have at most `length_ratio`
    times the source's tokens plus 10, and never an unknown token.

    Raises:
        ValueError: The data or the model is not for translation, or sacrebleu is missing.
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
        if not isinstance(model, EncoderDecoder):
            raise ValueError(
                "this model has no decoder: model=seq2seq, seq2seq_attention or "
                "transformer_seq2seq does"
            )
        if "sacrebleu" not in sys.modules and find_spec("sacrebleu") is None:
            raise ValueError(MISSING)
        self.model: Any = model
        self.data = data
        self.loss = loss
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.teacher_forcing = teacher_forcing
        self.beam_size = beam_size
        self.length_penalty = length_penalty
        self.length_ratio = length_ratio
        # of the perplexity, whatever the loss is
        self.entropy = nn.CrossEntropyLoss(ignore_index=PAD)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        if self.teacher_forcing < 1:
            rng.torch_stream(STREAM, next(self.model.parameters()).device)
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Tensor]) -> Metrics:
            logits = self.logits(*batch).flatten(0, 1)
            truth = batch[1][:, 1:].flatten()
            value, weight = training_mean(self.loss, logits, truth, counted=truth != PAD)
            optim.update(value, weight=weight)
            return {"loss": Mean(value.detach(), weight)}

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
            combines_scores=True,
        )

    def logits(self, source: Tensor, target: Tensor) -> Tensor:
        """Return logits (B, T, V) for the target tokens of a batch but the first.

        Padding has logits too, as dropping it would wait for a GPU to count the tokens.
        """
        memory = self.model.encode(source)
        inputs = target[:, :-1]
        if self.training and self.teacher_forcing < 1:
            return self.scheduled_sampling(memory, inputs)
        features, _ = self.model.decode(memory, inputs)
        logits: Tensor = self.model.output(features)
        return logits

    def scheduled_sampling(self, memory: EncoderOutput, inputs: Tensor) -> Tensor:
        """Return logits (B, T, V), with some of the `inputs` (B, T) replaced by predictions."""
        draw = uniform(rng.torch_stream(STREAM, inputs.device))
        forced = draw(inputs.shape) < self.teacher_forcing
        state = self.model.begin(memory)
        tokens = inputs[:, 0]
        steps: list[Tensor] = []
        for t in range(inputs.shape[1]):
            if t:
                predicted = steps[-1].detach().argmax(1)
                tokens = torch.where(forced[:, t], inputs[:, t], predicted)
            logits, state = self.model.step(tokens, state, memory)
            steps.append(logits)
        return torch.stack(steps, dim=1)

    def translate(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return translations (B, T), padded with `PAD`, and their log-probabilities (B,).

        Raises:
            ValueError: The call is traced; a search has no fixed number of steps.
        """
        if torch.jit.is_tracing():
            raise ValueError(
                "a search for translations runs until all of them have ended: it has no fixed graph"
            )
        lengths = (source != PAD).sum(1)
        limits = (lengths * self.length_ratio + SPARE_TOKENS).long()
        most = min(
            int(source.shape[1] * self.length_ratio + SPARE_TOKENS),
            self.data.spec.target_length - 1,
        )
        limits = limits.clamp(max=most)
        memory = self.model.encode(source)
        if self.beam_size == 1:
            return greedy(self.model, memory, limits, most)
        return beam_search(self.model, memory, limits, most, self.beam_size, self.length_penalty)

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {
            "loss": "min",
            "perplexity": "min",
            "bleu": "max",
            "chrf": "max",
            "exact_match": "max",
        }

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores over all batches, and some translations.

        They are {} in another than the first of several processes.

        Raises:
            ValueError: There are no batches.
        """
        gathered = TranslationScores()
        for source, target in batches:
            logits = self.logits(source, target).flatten(0, 1)
            truth = target[:, 1:].flatten()
            gathered.losses.add(evaluation_sum(self.loss, logits, truth, counted=truth != PAD))
            gathered.entropies.add(evaluation_sum(self.entropy, logits.float(), truth))
            del logits  # of a large vocabulary, those of two batches would need twice the memory
            written = [before_end(row) for row in self.translate(source)[0].tolist()]
            expected = [before_end(row[1:]) for row in target.tolist()]
            gathered.exact += sum(a == b for a, b in zip(written, expected, strict=True))
            gathered.hypotheses += map(self.decode_target, written)
            gathered.references += map(self.decode_target, expected)
            sources = [before_end(row) for row in source[:SHOWN_OF_A_BATCH].tolist()]
            gathered.shown += map(TranslatedSample, sources, expected, written)
        if not gathered.references:
            raise ValueError("there is nothing to evaluate: the split is empty")
        if not combined(gathered):
            return {}
        shown = gathered.shown
        spread = shown[:: math.ceil(len(shown) / SHOWN_TRANSLATIONS)]
        entropy = weighted_mean(gathered.entropies.total())
        return {
            "loss": weighted_mean(gathered.losses.total()),
            "perplexity": math.exp(min(entropy, MAX_LOG_PERPLEXITY)),
            **overlap(gathered.hypotheses, gathered.references),
            "exact_match": gathered.exact / len(gathered.references),
            "translations": self.translation_table(spread),
            **self.attention_tables(spread),
        }

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield each source text with its reference, translation, perplexity and loss.

        The `weight` is the number of target tokens, over which the loss is the mean.
        """
        for source, target in batches:
            logits = self.logits(source, target)
            written = [before_end(row) for row in self.translate(source)[0].tolist()]
            texts = zip(source.tolist(), target.tolist(), written, strict=True)
            for row, (read, expected, translation) in enumerate(texts):
                is_token = target[row, 1:] != PAD
                tokens = target[row, 1:][is_token]
                own_logits = logits[row][is_token]
                entropy = mean_over([evaluation_sum(self.entropy, own_logits.float(), tokens)])
                yield {
                    "text": self.decode_source(before_end(read)),
                    "label": self.decode_target(before_end(expected[1:])),
                    "prediction": self.decode_target(translation),
                    "perplexity": math.exp(min(entropy, MAX_LOG_PERPLEXITY)),
                    "loss": mean_over([evaluation_sum(self.loss, own_logits, tokens)]),
                    "weight": len(tokens),
                }

    def decode_target(self, tokens: list[int]) -> str:
        """Return the text of target tokens."""
        decode = self.data.spec.decode_target
        return decode(tokens) if decode else " ".join(map(str, tokens))

    def decode_source(self, tokens: list[int]) -> str:
        """Return the text of source tokens."""
        decode = self.data.spec.decode
        return decode(tokens) if decode else " ".join(map(str, tokens))

    def translation_table(self, translations: list[TranslatedSample]) -> Text:
        """Return a Markdown table of sources, references and translations."""
        lines = [("source", "reference", "translation"), ("---", "---", "---")]
        for translation in translations:
            texts = (
                self.decode_source(translation.source),
                self.decode_target(translation.reference),
                self.decode_target(translation.written),
            )
            lines.append(texts)
        cells = [[" ".join(text.split()).replace("|", "\\|") for text in line] for line in lines]
        return Text("\n".join(f"| {' | '.join(line)} |" for line in cells))

    def attention_tables(self, translations: list[TranslatedSample]) -> dict[str, Table]:
        """Return the attention weights of some short translations, in percent.

        The rows are written tokens, the columns source tokens. Empty for a model without attention.
        """
        device = next(self.model.parameters()).device
        short = [
            translation
            for translation in translations
            if len(translation.source) < MAX_PICTURED_TOKENS
            and len(translation.written) < MAX_PICTURED_TOKENS
        ]
        stride = math.ceil(max(1, len(short)) / ATTENTION_PICTURES)
        tables: dict[str, Table] = {}
        for number, translation in enumerate(short[::stride], 1):
            memory = self.model.encode(torch.tensor([translation.source], device=device))
            inputs = torch.tensor([[BEGIN, *translation.written]], device=device)
            _, weights = self.model.decode(memory, inputs)
            if weights is None:
                return {}
            rows = [f"{self.decode_target([token])} " for token in translation.written]
            columns = [f"{self.decode_source([token])} " for token in translation.source]
            percent = (weights[0].float() * 100).round().long().cpu()
            tables[f"attention_{number}"] = Table(
                percent, (*rows, "end"), tuple(columns), "written", "read"
            )
        return tables

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return translations (B, T) of source tokens (B, S), and their log-probabilities (B,)."""
        return self.translate(batch)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """Return the translation of each text, and its log-probability."""
        tokens, scores = outputs
        rows = []
        for row, score in zip(tokens.tolist(), scores.tolist(), strict=True):
            translation = self.decode_target(before_end(row))
            rows.append({"translation": translation, "log_probability": score})
        return rows


def before_end(row: list[int]) -> list[int]:
    """Return the tokens before the first end token or padding."""
    for i, token in enumerate(row):
        if token in (END, PAD):
            return row[:i]
    return row


def overlap(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """Return BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of a corpus, 0..100.

    BLEU counts n-grams of one to four words. Where no reference has four words, it counts the
    n-grams up to the longest reference: with longer ones, which no text can have, every corpus
    would score 0. Both scores of hypotheses that equal their references are 100, also where all
    are empty.

    Raises:
        ImportError: sacrebleu is missing.
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
