"""`dltrain resume RUN|SWEEP [overrides]`: continue a run or a sweep, or extend a finished run."""

from __future__ import annotations

import logging

from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.runs.continuation import continue_or_fork
from dltrain.runs.open import find_run
from dltrain.sweeps.find import find_sweep, hint_on_sweep
from dltrain.sweeps.run import require_finished, resume_sweep

log = logging.getLogger("dltrain")


def resume(options: Options) -> None:
    """Continue the run that is named, or a fork of it, or the sweep that is named."""
    found = find_sweep(options)
    if found is None:
        run, overrides = find_run(options)
        hint = hint_on_sweep(run.folder)
        if hint:
            log.info(hint)
        continue_or_fork(run, overrides, options)
        return
    sweep, overrides = found
    if options.fork:
        raise UsageError(f"{sweep} is a sweep: --fork continues a single run in a new folder")
    require_finished(resume_sweep(sweep, overrides, options))
