"""Word vectors of one run as the initial embedding of another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config.read import read_mapping
from dltrain.errors import ConfigError, InputError
from dltrain.runs.folder import CONFIG, RunFolder
from dltrain.types import END, Data

log = logging.getLogger("dltrain")
KEY = "model.embedding.from"
FIRST_WORD = END + 1  # lower token numbers are special
MODEL = "model."  # before the names of the model's weights in a task's state
MAX_REASON_CHARS = 100


def token_embedding(model: nn.Module, data: Data) -> nn.Embedding:
    """Return the layer with a vector for each token of the data; ConfigError without one."""
    vocab_size = data.spec.vocab_size
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    fitting = [layer for layer in embeddings if layer.num_embeddings == vocab_size]
    if not vocab_size or not fitting:
        raise ConfigError([(KEY, "the data has no words, or this model no vectors of them")])
    return fitting[0]


def load_vectors(
    layer: nn.Embedding,
    data: Any,
    run: RunFolder,
    weights: dict[str, Tensor],
    instantiate: Callable[..., Any],
) -> None:
    """Copy the vectors of `run` into `layer`, for every token of `data` that the run has learned.

    `weights` are those of the run's task, and `instantiate` builds its model. Raises InputError for
    a run of another kind, and for vectors of another size.
    """
    words, vectors = learned_vectors(run, weights, instantiate)
    size = vectors.shape[1]
    if size != layer.embedding_dim:
        raise InputError(
            f"{KEY}: the vectors of {run.folder} have {size} numbers: "
            f"set model.embedding_dim={size} (now {layer.embedding_dim})"
        )
    tokenizer = data.tokenizer
    row_of = {word: row for row, word in enumerate(words)}
    tokens = []
    rows = []
    for number in range(FIRST_WORD, tokenizer.vocab_size):
        row = row_of.get(tokenizer.token(number))
        if row is not None:
            tokens.append(number)
            rows.append(row)
    if not tokens:
        raise InputError(f"{KEY}: {run.folder} knows none of the words of this data")
    with torch.no_grad():
        layer.weight[torch.tensor(tokens)] = vectors[torch.tensor(rows)].to(layer.weight)
    count = tokenizer.vocab_size - FIRST_WORD
    log.info(f"{KEY} {run.folder}: {len(tokens):,} of {count:,} words begin with its vectors")


def learned_vectors(
    run: RunFolder, weights: dict[str, Tensor], instantiate: Callable[..., Any]
) -> tuple[list[str], Tensor]:
    """Return the N words of a run, and a vector of each (N, D)."""
    description = run.description() or {}
    config = read_mapping(Path(run.folder) / CONFIG, InputError)
    if "words" not in description or "counts" not in description:
        raise InputError(
            f"{KEY}: {run.folder} has learned no vectors of words (task=embedding does)"
        )
    words: list[str] = description["words"]
    own_weights = {
        name.removeprefix(MODEL): value for name, value in weights.items() if name.startswith(MODEL)
    }
    try:
        available = {"vocab_size": config["dataset"]["vocab_size"]}
        model = instantiate(config["model"], "model", available, [])
        model.set_vocabulary(words, torch.tensor(description["counts"]))
        model.load_state_dict(own_weights)
        with torch.no_grad():
            vectors = model.vectors(len(words))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
        reason = str(e)[:MAX_REASON_CHARS]
        raise InputError(f"{KEY}: the vectors of {run.folder} cannot be read ({reason})") from e
    return words[FIRST_WORD:], vectors[FIRST_WORD:]
