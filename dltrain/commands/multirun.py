"""`dltrain -m ...`: train a grid of runs, one after the other, and print a table of them."""

from __future__ import annotations

from dltrain.options import Options
from dltrain.sweeps.run import require_finished, run_sweep


def multirun(options: Options) -> None:
    """Run every combination of the swept values; a job that fails is in the table with its reason.

    All configurations are checked before the first job starts.
    """
    require_finished(run_sweep(options))
