"""Vectors of words that one run has learned, for the tokens of another to begin with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config.read import read_mapping
from dltrain.errors import ConfigError, InputError
from dltrain.runs.folder import CONFIG, Run
from dltrain.types import END, Data

log = logging.getLogger("dltrain")
KEY = "model.embedding.from"


def tokens_of(model: nn.Module, data: Data) -> nn.Embedding:
    """The layer that holds the vectors of the data's tokens; ConfigError where there is none."""
    layers = (
        m
        for m in model.modules()
        if isinstance(m, nn.Embedding) and m.num_embeddings == data.spec.vocab_size
    )
    layer = next(layers, None) if data.spec.vocab_size else None
    if layer is None:
        raise ConfigError([(KEY, "the data has no words, or this model no vectors of them")])
    return layer


def take_vectors(
    layer: nn.Embedding, data: Any, run: Run, state: dict[str, Tensor], make: Callable[..., Any]
) -> None:
    """Put the vectors that `run` ended with, of which `state` has the weights, into `layer` for every token that it knows.

    InputError for a run of something else, or whose vectors are of another size.
    """
    words, vectors = learned(run, state, make)
    if vectors.shape[1] != layer.embedding_dim:
        raise InputError(
            f"{KEY}: the vectors of {run.folder} have {vectors.shape[1]} numbers: model.embedding_dim={vectors.shape[1]} "
            f"takes them (now {layer.embedding_dim})"
        )
    row = {word: i for i, word in enumerate(words)}
    tokenizer = data.tokenizer
    known = [
        (i, row[token])
        for i in range(END + 1, tokenizer.vocab_size)
        if (token := tokenizer.token(i)) in row
    ]
    if not known:
        raise InputError(f"{KEY}: {run.folder} knows none of the words of this data")
    at = torch.tensor(known)
    with torch.no_grad():
        layer.weight[at[:, 0]] = vectors[at[:, 1]].to(layer.weight)
    log.info(
        f"{KEY} {run.folder}: {len(known):,} of {tokenizer.vocab_size - END - 1:,} words begin with its vectors"
    )


def learned(
    run: Run, state: dict[str, Tensor], make: Callable[..., Any]
) -> tuple[list[str], Tensor]:
    """The words of a run and the vector (N, D) of each."""
    description = run.description() or {}
    config = read_mapping(Path(run.folder) / CONFIG, InputError)
    if "words" not in description or "counts" not in description:
        raise InputError(
            f"{KEY}: {run.folder} has learned no vectors of words (task=embedding does)"
        )
    words: list[str] = description["words"]
    try:
        model = make(config["model"], "model", {"vocab_size": config["dataset"]["vocab_size"]}, [])
        model.set_vocabulary(words, torch.tensor(description["counts"]))
        own = {
            name.removeprefix("model."): value
            for name, value in state.items()
            if name.startswith("model.")
        }
        model.load_state_dict(own)
        with torch.no_grad():
            return words[END + 1 :], model.vectors(len(words))[END + 1 :]
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise InputError(
            f"{KEY}: the vectors of {run.folder} cannot be read ({str(e)[:100]})"
        ) from e
