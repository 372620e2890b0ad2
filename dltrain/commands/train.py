"""`dltrain [train] [overrides]`: train an experiment, then test its best checkpoint."""

from __future__ import annotations

from dltrain.config import check
from dltrain.config.compose import compose
from dltrain.experiment.session import start
from dltrain.files import unused_folder
from dltrain.options import Options
from dltrain.runs import automatic


def train(options: Options) -> None:
    """Compose and check the configuration, then train a run of it."""
    composed = compose(options.overrides)
    check.raise_all(composed)
    if composed.config["resume"] is None:
        start(composed, options, unused_folder(options.folder))
    else:
        automatic.train(composed, options)
