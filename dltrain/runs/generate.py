"""Images, texts and episodes that a trained run generates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor

from dltrain import rng
from dltrain.errors import UsageError
from dltrain.runs.open import TrainedRun, evaluation_mode
from dltrain.types import (
    ChoosesActions,
    GeneratesImages,
    GeneratesText,
    ReadsText,
    RendersEpisodes,
)
from dltrain.user_code import location_of_user_code

MAX_FRAMES = 1000  # a longer episode is cut off


def sampled(trained: TrainedRun, number: int) -> Tensor:
    """Return images (N, C, H, W) in 0..1; UsageError for a task that generates no images."""
    task = trained.engine.task
    if isinstance(task, GeneratesText):
        raise UsageError('this run continues texts: dltrain generate RUN "TEXT" --tokens 200')
    if not isinstance(task, GeneratesImages):
        raise UsageError(
            f"generate: a run of {type(task).__name__} generates no images; choose the run of a "
            "GAN or VAE, or give a TEXT for a language model to continue"
        )
    rng.seed_all(trained.seed)
    with evaluation_mode(trained.engine):
        try:
            return task.sample(number).cpu()
        except ValueError as e:
            if location_of_user_code(e):
                raise
            raise UsageError(f"--samples: {e}") from e


def continued(
    trained: TrainedRun, prompts: list[str], length: int, temperature: float, top_p: float
) -> Iterator[str]:
    """Yield each prompt with `length` tokens after it.

    Raises UsageError for a task that writes no text.
    """
    engine = trained.engine
    data = trained.reader
    task = engine.task
    if not isinstance(task, GeneratesText) or not isinstance(data, ReadsText):
        raise UsageError(
            f"--tokens: a run of {type(task).__name__} writes no text; one of a language model does"
        )
    decode = data.spec.decode
    assert decode
    rng.seed_all(trained.seed)
    with evaluation_mode(engine):
        for prompt in prompts:
            tokens = engine.move(data.encode_text(prompt))  # (T,)
            following = task.generate_text(tokens, length, temperature, top_p)
            yield decode([*tokens.tolist(), *following.tolist()])


def episode_frames(trained: TrainedRun) -> list[Any]:
    """Return the frames (H, W, 3) of an episode; UsageError for a run without episodes."""
    task = trained.engine.task
    if not isinstance(task, ChoosesActions) or not isinstance(trained.reader, RendersEpisodes):
        raise UsageError(
            f"rollout: a run of {type(task).__name__} has no episodes; choose the run of an agent, "
            "such as task=dqn"
        )
    with evaluation_mode(trained.engine):
        try:
            return list(islice(trained.reader.render_episode(task.act, trained.seed), MAX_FRAMES))
        except ValueError as e:
            if location_of_user_code(e):
                raise
            raise UsageError(f"rollout: {e}") from e
