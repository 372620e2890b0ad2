"""`dltrain rollout RUN [--out episode.gif]`: an episode of a trained agent, as an animation."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import Any

from dltrain.config.overrides import take
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.options import Options, require_choice
from dltrain.runs.open import POINTERS, TrainedRun, evaluation_mode, find_run, open_trained
from dltrain.types import ChoosesActions, RendersEpisodes

log = logging.getLogger("dltrain")
FILE = "episode.gif"  # in the run's folder
SUFFIX = ".gif"
FRAME_MILLISECONDS = 40
SLOW_FRAME_MILLISECONDS = 250  # of a short episode
MAX_SLOW_FRAMES = 60
MAX_FRAMES = 1000
LAST_FRAME_MILLISECONDS = 1500


def rollout(options: Options) -> None:
    """Write one episode as GIF: the one of the test split whose number is the seed (seed=N)."""
    run, overrides = find_run(options)
    typed, overrides = take(overrides, ["checkpoint"])
    pointer = typed.get("checkpoint", "best")
    require_choice("checkpoint", pointer, POINTERS)
    out = Path(options.out or run.folder / FILE)
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: expected a name that ends in {SUFFIX}")
    frames = episode_frames(open_trained(run, overrides, pointer))
    write_animation(frames, out)
    log.info(f"{out}: {len(frames):,} pictures of an episode")
    options.outcome.update({"run": str(run.folder), "frames": len(frames), "out": str(out)})


def episode_frames(trained: TrainedRun) -> list[Any]:
    """Return the pictures (H, W, 3) of an episode; UsageError for a run that has none to show."""
    task = trained.engine.task
    if not isinstance(task, ChoosesActions) or not isinstance(trained.reader, RendersEpisodes):
        raise UsageError(
            f"rollout: a run of {type(task).__name__} has no episodes; one of an agent does"
        )
    with evaluation_mode(trained.engine):
        try:
            return list(islice(trained.reader.render_episode(task.act, trained.seed), MAX_FRAMES))
        except ValueError as e:
            raise UsageError(f"rollout: {e}") from e


def write_animation(frames: list[Any], out: Path) -> None:
    """Write pictures as an animated GIF that repeats."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    milliseconds = FRAME_MILLISECONDS
    if len(pictures) <= MAX_SLOW_FRAMES:
        milliseconds = SLOW_FRAME_MILLISECONDS
    durations = [milliseconds] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    with writing(f"--out {out}"):
        pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
