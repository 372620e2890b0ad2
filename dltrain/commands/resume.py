"""`dltrain resume RUN [overrides]`: continue a run where it stopped, or extend a finished one."""

from __future__ import annotations

from dltrain.options import Options
from dltrain.runs.continuation import continue_or_fork
from dltrain.runs.open import find_run


def resume(options: Options) -> None:
    """Continue the run that is named, or a fork of it."""
    run, overrides = find_run(options)
    continue_or_fork(run, overrides, options)
