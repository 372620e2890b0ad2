"""Small tasks that prune networks of digits, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine, Resume
from dltrain.experiment.experiment import Experiment
from dltrain.runs.checkpoint import Store
from dltrain.tasks.compression.pruning import NetworkPruning

DIGITS = ("dataset=digits", "device=cpu", "callbacks=quiet", "task=pruning")
CNN = ("model=cnn", "model.channels=[8,12]", "model.hidden_sizes=[10]")
# An epoch is six batches.
BRIEF = ("dataset.batch_size=256", "task.train_epochs=1", "trainer.epochs=1")
CHANNELS = ("task.kind=channels", "task.scope=layer", "task.sparsity=0.5")


def pruning(*overrides: str, model: tuple[str, ...] = CNN) -> NetworkPruning:
    """Return the task of an experiment on digits; later overrides win."""
    config = compose([*DIGITS, *BRIEF, *model, *overrides]).config
    task = Experiment.to_train(config).task
    assert isinstance(task, NetworkPruning)
    return task


def masks_of(task: Any) -> dict[str, Tensor]:
    """Return the masks of a task by the names of its parameters."""
    return dict(zip(task.pruner.names, task.pruner.masks(), strict=True))


def zeros_of(task: Any) -> dict[str, Tensor]:
    """Return where each pruned parameter of a task is exactly zero."""
    return {name: task.model.get_parameter(name) == 0 for name in task.pruner.names}


def trained(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit a task; of a whole run there is a checkpoint at every step. Seeds the generators."""
    rng.seed_all(3)
    store = Store(folder)
    history = History()
    store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    saver = Checkpoint(store)

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    more = [] if resume else [EveryStep()]
    engine = Engine([history, saver, *more])
    engine.fit(task, resume)
    return engine, history


def everything(engine: Engine) -> dict[str, Any]:
    """Return weights, masks, moments and the state of the generators."""
    state = engine.state_dict()
    return {**{key: state[key] for key in ("task", "optims", "step")}, "rng": state["rng"]["torch"]}
