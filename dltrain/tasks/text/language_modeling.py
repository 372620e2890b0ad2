"""Language modeling: learn to predict the next token, and generate text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.losses import LossSums, evaluation_sum, mean_over, training_mean
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.outputs import require_shape
from dltrain.tasks.supervised import validation_split
from dltrain.tasks.text.embedding import JudgedVocabulary
from dltrain.tasks.text.generation import continue_text
from dltrain.types import PAD, Data, Ge, Gt, LanguageModel, Le, NonNegative, Text
from dltrain.types.combining import combined

CANDIDATES = 5  # for the next token
MAX_PROMPT_TOKENS = 8  # of the text that an evaluation generates
MAX_LOSS = 700.0  # of which the exponential is finite
MAX_PREDICTED_LOGITS = 2**26  # that a prediction holds at once: 256 MB; larger batches are split
BATCHES_PER_READ = 64  # of an evaluation, which waits for the device when it reads their tokens
Batch = tuple[Tensor, Tensor, Tensor]


class LanguageModeling(Task):
    """Learns to continue a text, with logits (B, T, V) of `model`, which may carry a state.

    Batches are (tokens (B, T), the token after each (B, T), and whether a row starts a new text
    (B,)). Where batches continue each other, a network with a state starts each batch from the
    state at the end of the one before, and gradients stop there: truncated backpropagation through
    time.

    Every evaluation gives the loss of a token in nats, its exponential, the `perplexity`, and the
    loss of a character in `bits`. It generates a text of `sample_tokens` tokens, drawn at
    `temperature` from the likeliest tokens with the total probability `top_p`; with 0 tokens none.

    Raises:
        ValueError: The data is not running text, or the model is not a language model.
    """

    state: Tensor

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        sample_tokens: Annotated[int, Ge(0)] = 200,
        temperature: NonNegative = 0.8,
        top_p: Annotated[float, Gt(0), Le(1)] = 0.95,
        watch: str = "val/loss",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        spec = data.spec
        is_labeled = bool(spec.class_names or spec.target_vocab_size)
        if not spec.vocab_size or is_labeled or isinstance(data, JudgedVocabulary):
            raise ValueError(
                "the data is not running text: dataset=shakespeare, or language_modeling with a "
                "path"
            )
        if not isinstance(model, LanguageModel):
            raise ValueError(
                "this model does not predict the next token: model=lstm_lm, gru_lm, rnn_lm or "
                "transformer_lm does"
            )
        self.model: Any = model
        self.loss = loss
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.sample_tokens = sample_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.watch = watch
        self.mode = mode
        # The state that training carries from a batch to the next; saved as extra state.
        self.register_buffer("state", torch.zeros(0), persistent=False)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        train = self.data.train
        continues = self.data.spec.continues
        optim = self.optim(self.model, self.epochs * len(train))
        if continues:
            self.state = self.model.begin(train.batch_size)

        def step(batch: Batch) -> Metrics:
            tokens, following, starts = batch
            before = self.without_new_texts(self.state, starts) if continues else None
            logits, state = self.next_logits(tokens, before)
            loss, weight = training_mean(self.loss, logits.flatten(0, 1), following.flatten())
            optim.update(loss, weight=weight)
            if continues and state is not None:
                self.state.copy_(state.detach())
            return {"loss": Mean(loss.detach(), weight)}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=train,
            step=step,
            held_out=validation_split(self.data),
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            replayable=True,
            combines_scores=not continues,  # a batch that continues another needs its state
        )

    def get_extra_state(self) -> Tensor:
        """Return the state that training carries, for checkpoints."""
        return self.state

    def set_extra_state(self, state: Tensor) -> None:
        """Load a saved state, unless its batch size is another, in which case it is not used."""
        if state.shape == self.state.shape:
            self.state.copy_(state)

    def carried(self, state: Tensor | None, starts: Tensor) -> Tensor | None:
        """Return the state for the next batch of an evaluation, whose rows may be fewer."""
        if state is None or not self.data.spec.continues:
            return None
        rows = len(starts)
        if state.shape[2] < rows:
            return None
        return self.without_new_texts(state[:, :, :rows], starts)

    @staticmethod
    def without_new_texts(state: Tensor, starts: Tensor) -> Tensor:
        """Return the state (L, P, B, H), zero in the rows that start a new text (B,)."""
        return state.masked_fill(starts.view(1, 1, -1, 1), 0)

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {"loss": "min", "perplexity": "min", "bits": "min"}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, Any]:
        """Return the scores over all batches, and a generated text.

        They are {} in another than the first of several processes.

        Raises:
            ValueError: There are no batches.
        """
        sums = TextSums()
        state: Tensor | None = None
        prompt: Tensor | None = None
        unread: list[Tensor] = []  # tokens whose characters are not counted yet
        decode = self.data.spec.decode
        for tokens, following, starts in batches:
            if prompt is None:
                prompt = tokens[:1, :MAX_PROMPT_TOKENS]
            logits, state = self.next_logits(tokens, self.carried(state, starts))
            sums.losses.add(self.loss, logits.flatten(0, 1), following.flatten())
            del logits  # of a large vocabulary, those of two batches would need twice the memory
            sums.tokens += following.numel()
            if decode:
                unread.append(following)
            if decode and len(unread) == BATCHES_PER_READ:
                sums.characters += count_characters(unread, decode)
                unread.clear()
        if prompt is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        if decode:
            sums.characters += count_characters(unread, decode)
        if not combined(sums):
            return {}
        loss = sums.losses.mean()
        scores: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, MAX_LOSS))}
        if sums.characters:
            scores["bits"] = loss * sums.tokens / math.log(2) / sums.characters
        if self.sample_tokens and decode:
            scores["text"] = Text(self.sample_text(prompt, decode))
        return scores

    def sample_rows(self, batches: Iterable[Batch]) -> Iterator[dict[str, Any]]:
        """Yield the text of each block of tokens, its loss, and the exponential of that."""
        decode = self.data.spec.decode or str
        state: Tensor | None = None
        for tokens, following, starts in batches:
            logits, state = self.next_logits(tokens, self.carried(state, starts))
            for block, block_logits, truth in zip(tokens.tolist(), logits, following, strict=True):
                loss = mean_over([evaluation_sum(self.loss, block_logits, truth)])
                perplexity = math.exp(min(loss, MAX_LOSS))
                yield {"text": decode(block), "perplexity": perplexity, "loss": loss}

    def sample_text(self, prompt: Tensor, decode: Callable[[list[int]], str]) -> str:
        """Return Markdown of a text that continues `prompt` (1, T), drawn alike in every epoch."""
        generator = rng.keyed(self.sample_tokens)
        written = continue_text(
            self.model, prompt, self.sample_tokens, self.temperature, self.top_p, generator
        )
        lines = decode([*prompt[0].tolist(), *written[0].tolist()]).splitlines()
        return "\n".join(f"    {line}" for line in lines)

    def generate_text(self, tokens: Tensor, count: int, temperature: float, top_p: float) -> Tensor:
        """Return `count` tokens (count,) that follow `tokens` (T,)."""
        generator = rng.torch_stream("writing")
        prompt = tokens.unsqueeze(0)
        return continue_text(self.model, prompt, count, temperature, top_p, generator)[0]

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a token (B,) and the logits (B, V) of the next token.

        `batch` holds token sequences (B, T), padded with `PAD`; a model with a `context` reads only
        so many first tokens.
        """
        batch = self.within_context(batch)
        rows = max(1, MAX_PREDICTED_LOGITS // (int(batch.shape[1]) * self.data.spec.vocab_size))
        losses, next_logits = zip(*map(self._predict_rows, batch.split(rows)), strict=True)
        return torch.cat(losses), torch.cat(next_logits)

    def next_logits(
        self, tokens: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits (B, T, V) of the token after each of (B, T), and the state after them."""
        logits, state = self.model(tokens, state)
        require_shape(self.model, tokens, logits, (*tokens.shape, self.data.spec.vocab_size))
        return logits, state

    def _predict_rows(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction of as many sequences as fit into memory at once."""
        logits, _ = self.next_logits(batch)
        lengths = (batch != PAD).sum(1).clamp_min(1)
        next_logits = logits[torch.arange(len(batch), device=batch.device), lengths - 1].float()
        losses = nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), batch[:, 1:], ignore_index=PAD, reduction="none"
        )
        return losses.sum(1) / (lengths - 1).clamp_min(1), next_logits

    def within_context(self, batch: Tensor) -> Tensor:
        """Return the first tokens (B, T) of sequences, as many as the model reads at once."""
        context: int | None = self.model.context
        return batch if context is None else batch[:, :context]

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """Return the perplexity of each text and the likeliest next tokens."""
        losses, next_logits = outputs
        decode = self.data.spec.decode or str
        num_candidates = min(CANDIDATES, next_logits.shape[1])
        probabilities, tokens = next_logits.softmax(1).topk(num_candidates, dim=1)
        rows = []
        for loss, row_probabilities, row_tokens in zip(
            losses.tolist(), probabilities.tolist(), tokens.tolist(), strict=True
        ):
            top = [
                {"next": decode([token]), "probability": probability}
                for token, probability in zip(row_tokens, row_probabilities, strict=True)
            ]
            rows.append({"perplexity": math.exp(min(loss, MAX_LOSS)), **top[0], "top": top})
        return rows


class TextSums:
    """The loss over the tokens of a text, and the numbers of its tokens and characters."""

    def __init__(self) -> None:
        self.losses = LossSums()
        self.tokens = 0
        self.characters = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        losses = self.losses.state_dict()
        return {"losses": losses, "tokens": self.tokens, "characters": self.characters}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the sums of another part of the text."""
        self.losses.merge(state["losses"])
        self.tokens += state["tokens"]
        self.characters += state["characters"]


def count_characters(batches: Sequence[Tensor], decode: Callable[[list[int]], str]) -> int:
    """Return the number of characters in the text of token numbers (B, T)."""
    return sum(len(decode(row)) for tokens in batches for row in tokens.tolist())
