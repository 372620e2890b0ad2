"""`dltrain [train] [overrides]`: train an experiment, then test its best checkpoint."""

from __future__ import annotations

from dltrain.config import check
from dltrain.config.command_groups import split_overrides
from dltrain.config.compose import compose
from dltrain.distributed.environment import launch_key
from dltrain.errors import UsageError
from dltrain.experiment.session import start
from dltrain.files import unused_folder
from dltrain.options import Options
from dltrain.runs import automatic
from dltrain.sweeps.folds import wants_all_folds
from dltrain.sweeps.run import require_finished, run_sweep


def train(options: Options) -> None:
    """Compose and check the configuration, then train a run of it, or one for each fold."""
    composed = compose(options.overrides)
    if wants_all_folds(composed.config):
        require_finished(run_sweep(options))
        return
    require_no_sweep(options)
    check.raise_all(composed)
    if composed.config["resume"] is None and not launch_key():
        start(composed, options, unused_folder(options.folder))
    else:
        automatic.train(composed, options)


def require_no_sweep(options: Options) -> None:
    """Raise UsageError for settings of a sweep, which a single run does not read."""
    own, _ = split_overrides(options.overrides)
    if own:
        raise UsageError(
            f"{own[0]} is a setting of sweeps: add -m, which also runs a single configuration"
        )
