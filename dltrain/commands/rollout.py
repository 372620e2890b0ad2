"""`dltrain rollout RUN [--out episode.gif]`: writes an episode of an agent as an animated GIF."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dltrain.config.overrides import take
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.options import Options
from dltrain.runs.generate import episode_frames
from dltrain.runs.open import find_run, open_trained, require_checkpoint_name

log = logging.getLogger("dltrain")
DEFAULT_FILE = "episode.gif"  # in the run's folder
SUFFIX = ".gif"
FRAME_MILLISECONDS = 40
SLOW_FRAME_MILLISECONDS = 250  # in an episode of at most MAX_SLOW_FRAMES frames
MAX_SLOW_FRAMES = 60
LAST_FRAME_MILLISECONDS = 1500


def rollout(options: Options) -> None:
    """Write one episode of the test split as an animated GIF; seed=N chooses which one."""
    run, overrides = find_run(options)
    typed, overrides = take(overrides, ["checkpoint"])
    checkpoint = typed.get("checkpoint", "best")
    require_checkpoint_name(checkpoint)
    out = Path(options.out or run.folder / DEFAULT_FILE)
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: expected a name that ends in {SUFFIX}")
    frames = episode_frames(open_trained(run, overrides, checkpoint))
    write_animation(frames, out)
    log.info(f"{out}: an episode of {len(frames):,} frames")
    options.outcome.update({"run": str(run.folder), "frames": len(frames), "out": str(out)})


def write_animation(frames: list[Any], out: Path) -> None:
    """Write frames (H, W, 3) as an animated GIF that repeats."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    milliseconds = FRAME_MILLISECONDS
    if len(pictures) <= MAX_SLOW_FRAMES:
        milliseconds = SLOW_FRAME_MILLISECONDS
    durations = [milliseconds] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    with writing(f"--out {out}"):
        pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
