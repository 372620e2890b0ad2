"""`dltrain predict RUN TEXT --tokens N [temperature=0.8 top_p=0.95]`: what a language model goes on with."""

from __future__ import annotations

import logging

from dltrain import rng
from dltrain.commands.options import Options
from dltrain.commands.resume import answering
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.types import Data, GeneratesText, ReadsText

log = logging.getLogger("dltrain")
MOST = 100_000
SETTINGS = {"temperature": "0.8", "top_p": "0.95"}


def write_text(
    engine: Engine,
    options: Options,
    data: Data,
    prompts: list[str],
    settings: dict[str, str],
    seed: int,
) -> None:
    """Print each of the `prompts` and what follows, by averaged weights where the last stage averages.

    The same seed (seed=N) gives the same text. UsageError for a task that writes none, and for numbers that are none.
    """
    number = str(options.tokens)
    if not number.isdecimal() or not 0 < int(number) <= MOST:
        raise UsageError(f"--tokens {number}: expected a whole number from 1 to {MOST:,}")
    temperature, top_p = (as_number(name, settings[name]) for name in SETTINGS)
    if temperature < 0 or not 0 < top_p <= 1:
        raise UsageError(
            "temperature: expected a number from 0 on; top_p: expected one above 0, up to 1"
        )
    task = engine.task
    if not isinstance(task, GeneratesText) or not isinstance(data, ReadsText):
        raise UsageError(
            f"--tokens: a run of {type(task).__name__} writes no text; one of a language model does"
        )
    rng.seed_all(seed)
    with answering(engine):
        written = []
        for prompt in prompts:
            tokens = engine.move(data.encode_text(prompt))
            after = task.generate_text(tokens, int(number), temperature, top_p)
            decode = data.spec.decode
            assert decode
            written.append(decode([*tokens.tolist(), *after.tolist()]))
            log.info(written[-1])
    options.outcome.update({"written": written})


def as_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise UsageError(f"{name}={text}: expected a number") from e
