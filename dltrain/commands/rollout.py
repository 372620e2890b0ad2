"""`dltrain predict RUN --out episode.gif`: an episode of what a run has learned to do, as an animated picture."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.commands.options import Options
from dltrain.commands.resume import answering
from dltrain.engine import Engine
from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.types import ChoosesActions, Data, Watchable

log = logging.getLogger("dltrain")
SUFFIX = ".gif"
MILLISECONDS = 40  # a picture is shown; of few pictures longer
FEW, SLOW = 60, 250
MOST = 1000  # pictures
SHOWN_LAST = 1500  # milliseconds


def write_episode(
    engine: Engine, options: Options, data: Data, out: Path, run: Path, seed: int
) -> None:
    """Write one episode as GIF, the one that is number `seed` of the test split.

    UsageError for a task that does not act, an environment that draws nothing, and a file that cannot be written.
    """
    from PIL import Image

    task = engine.task
    if not isinstance(task, ChoosesActions) or not isinstance(data, Watchable):
        raise UsageError(
            f"--out {out}: a run of {type(task).__name__} does nothing to be watched; --out FILE.csv"
        )
    with answering(engine):
        try:
            frames = [
                Image.fromarray(frame)
                for _, frame in zip(range(MOST), data.watch(task.act, seed), strict=False)
            ]
        except ValueError as e:
            raise UsageError(f"--out {out}: {e}") from e
    each = SLOW if len(frames) <= FEW else MILLISECONDS
    durations = [*[each] * (len(frames) - 1), SHOWN_LAST]
    with writing(f"--out {out}"):
        frames[0].save(out, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    log.info(f"{out}: {len(frames):,} pictures of an episode")
    options.outcome.update({"run": str(run), "frames": len(frames), "out": str(out)})
