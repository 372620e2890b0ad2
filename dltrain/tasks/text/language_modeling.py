"""Language modeling: learn which token comes next, and write."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Mean, Metrics, Stage, Task
from dltrain.losses import evaluation_sum, mean_over, training_mean
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.text.generation import write_on
from dltrain.types import PAD, Data, Ge, Gt, Le, NonNegative, Text

CANDIDATES = 5  # for the next token
PREDICTED_LOGITS = (
    2**26
)  # that a prediction holds at once: 256 MB, in which a batch of a large vocabulary has to be split
Batch = tuple[Tensor, Tensor, Tensor]


class LanguageModeling(Task):
    """Learns to continue a text. Batches are (tokens (B, T), the tokens that follow each (B, T), which rows begin anew (B,));
    `model` gives logits (B, T, V) and the state that it carries on.

    Where batches continue each other, a network with a state starts each from where the one before ended, and gradients end
    there: truncated back-propagation through time. Every evaluation gives the loss a token in nats, its exponential, which is
    the `perplexity`, and the loss a character of text in `bits`; and a text of `sample_tokens` tokens, written by drawing at
    `temperature` from the likeliest tokens with `top_p` of the probability (0 tokens: none).
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
        if not spec.vocab_size or spec.class_names or spec.target_vocab_size:
            raise ValueError(
                "the data is no running text: dataset=shakespeare, or language_modeling with a path"
            )
        if not hasattr(model, "begin") or not hasattr(model, "context"):
            raise ValueError(
                "this model does not say what comes next: model=lstm_lm, gru_lm, rnn_lm or transformer_lm does"
            )
        self.model: Any = model
        self.loss, self.data, self.optim, self.epochs = loss, data, optim, epochs
        self.sample_tokens, self.temperature, self.top_p = sample_tokens, temperature, top_p
        self.watch, self.mode = watch, mode
        self.register_buffer(
            "state", torch.zeros(0), persistent=False
        )  # what training carries from a batch to the next

    def stages(self) -> Iterator[Stage]:
        train, continues = self.data.train, self.data.spec.continues
        optim = self.optim(self.model, self.epochs * len(train))
        if continues:
            self.state = self.model.begin(train.batch_size)

        def step(batch: Batch) -> Metrics:
            tokens, following, fresh = batch
            logits, state = self.model(
                tokens, self.resumed(self.state, fresh) if continues else None
            )
            loss, weight = training_mean(self.loss, logits.flatten(0, 1), following.flatten())
            optim.update(loss, weight=weight)
            if continues:
                self.state.copy_(state.detach())
            return {"loss": Mean(loss.detach(), weight)}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=train,
            step=step,
            held_out=self.data.val if self.data.val.samples else None,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
        )

    def get_extra_state(self) -> Tensor:
        return self.state

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the state of a checkpoint, unless its batches were of another size: then nothing reads it."""
        if state.shape == self.state.shape:
            self.state.copy_(state)

    def carried(self, state: Tensor | None, fresh: Tensor) -> Tensor | None:
        """Return the state that an evaluation goes on from, for the rows that it has still."""
        if state is None or not self.data.spec.continues or state.shape[2] < len(fresh):
            return None
        return self.resumed(state[:, :, : len(fresh)], fresh)

    @staticmethod
    def resumed(state: Tensor, fresh: Tensor) -> Tensor:
        """The state (L, P, B, H) without that of the rows that begin anew."""
        return state.masked_fill(fresh.view(1, 1, -1, 1), 0)

    def directions(self) -> dict[str, Direction | None]:
        return {"loss": "min", "perplexity": "min", "bits": "min"}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, Any]:
        """Scores over all batches, and a sample of what the model writes."""
        sums: list[Tensor] = []
        count = 0
        characters = 0
        state: Tensor | None = None
        decode = self.data.spec.decode
        first: Tensor | None = None
        for tokens, following, fresh in batches:
            first = tokens[:1] if first is None else first
            logits, state = self.model(tokens, self.carried(state, fresh))
            sums.append(evaluation_sum(self.loss, logits.flatten(0, 1), following.flatten()))
            del logits  # of a large vocabulary, two batches' would take twice the memory
            count += following.numel()
            characters += sum(len(decode(row)) for row in following.tolist()) if decode else 0
        if first is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        loss = mean_over(sums)
        scores: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if characters:
            scores["bits"] = loss * count / math.log(2) / characters
        if self.sample_tokens and decode:
            scores["text"] = Text(self.sample(first[:, : min(8, first.shape[1])], decode))
        return scores

    def sample(self, begin: Tensor, decode: Callable[[list[int]], str]) -> str:
        """Markdown of a text that goes on from the tokens `begin` (1, T), the same draw in every epoch."""
        written = write_on(
            self.model,
            begin,
            self.sample_tokens,
            self.temperature,
            self.top_p,
            generator=rng.keyed(self.sample_tokens),
        )
        lines = decode([*begin[0].tolist(), *written[0].tolist()]).splitlines()
        return "\n".join(f"    {line}" for line in lines)

    def generate_text(self, tokens: Tensor, count: int, temperature: float, top_p: float) -> Tensor:
        """`count` tokens (count,) that follow `tokens` (T,)."""
        return write_on(
            self.model, tokens.unsqueeze(0), count, temperature, top_p, rng.torch_stream("writing")
        )[0]

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Of token sequences (B, T), filled up with `PAD`: the loss a token (B,) and the logits (B, V) of what comes next."""
        batch = self.seen(batch)
        rows = max(1, PREDICTED_LOGITS // (int(batch.shape[1]) * self.data.spec.vocab_size))
        losses, following = zip(*map(self._predict_rows, batch.split(rows)), strict=True)
        return torch.cat(losses), torch.cat(following)

    def _predict_rows(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `predict` does of as many sequences as fit into memory at once."""
        logits, _ = self.model(batch)
        lengths = (batch != PAD).sum(1).clamp_min(1)
        next_logits = logits[torch.arange(len(batch), device=batch.device), lengths - 1].float()
        losses = nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), batch[:, 1:], ignore_index=PAD, reduction="none"
        )
        return losses.sum(1) / (lengths - 1).clamp_min(1), next_logits

    def seen(self, batch: Tensor) -> Tensor:
        """As much of the sequences' beginning as the model sees at once."""
        context: int | None = self.model.context
        return batch if context is None else batch[:, :context]

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, Any]]:
        """The perplexity of each text, and what comes next."""
        decode = self.data.spec.decode or str
        probabilities, ranked = (
            outputs[1].softmax(1).topk(min(CANDIDATES, outputs[1].shape[1]), dim=1)
        )
        rows = []
        for loss, shares, tokens in zip(
            outputs[0].tolist(), probabilities.tolist(), ranked.tolist(), strict=True
        ):
            top = [
                {"next": decode([t]), "probability": p} for t, p in zip(tokens, shares, strict=True)
            ]
            rows.append({"perplexity": math.exp(min(loss, 700.0)), **top[0], "top": top})
        return rows
