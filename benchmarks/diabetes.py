"""Compare R2 of experiment=mlp_diabetes and of ridge regression on the same folds.

    python -m benchmarks.diabetes [--seeds 3] [overrides of the experiment]

Each of five folds, drawn by dataset.split_seed, is held out once, and neither method sees it before
it is scored. The MLP is scored after its last epoch, with averaged weights if it averages. Ridge
regression chooses its penalty by leave-one-out cross-validation on the training rows
(scikit-learn's RidgeCV). Both read the same standardized inputs.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from torch import Tensor

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.runs.folder import RunFolder

FOLDS = 5
ALPHAS = np.logspace(-2, 4, 25)


def experiment(fold: int, seed: int, overrides: list[str]) -> Experiment:
    """Return the experiment with one fold held out; the folds do not depend on the seed."""
    folds = [
        f"dataset.folds={FOLDS}",
        f"dataset.fold={fold}",
        "dataset.test_fraction=0",
        f"seed={seed}",
    ]
    composed = compose(["experiment=mlp_diabetes", "callbacks=quiet", *folds, *overrides])
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config)


def mlp(built: Experiment) -> float:
    """Return R2 on the held-out fold after training."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(built, RunFolder(Path(folder)), "benchmark")
        session.engine.fit(built.task)
        session.engine.emit("close")
        return float(session.engine.score(built.data.val, "val")["val/r2"])


def ridge(built: Experiment) -> float:
    """Return R2 of ridge regression on the same rows."""

    def rows(split: object) -> tuple[Tensor, Tensor]:
        return split.inputs[split.rows], split.targets[split.rows, 0]  # type: ignore[attr-defined]

    (x, y), (held_x, held_y) = rows(built.data.train), rows(built.data.val)
    return float(RidgeCV(ALPHAS).fit(x.numpy(), y.numpy()).score(held_x.numpy(), held_y.numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments, overrides = parser.parse_known_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    print(
        f"{'fold':8}{'ridge':>8}"
        + "".join(f"{f'MLP {seed}':>8}" for seed in range(arguments.seeds))
    )
    figures = []
    for fold in range(FOLDS):
        built = [experiment(fold, seed, overrides) for seed in range(arguments.seeds)]
        figures.append([ridge(built[0]), *map(mlp, built)])
        print(f"{fold:<8}" + "".join(f"{value:8.4f}" for value in figures[-1]), flush=True)
    print(f"{'mean':8}" + "".join(f"{value:8.4f}" for value in np.mean(figures, axis=0)))


if __name__ == "__main__":
    main()
