"""Opening a run: finding it, reading its saved configuration, loading one of its checkpoints."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain.config import check
from dltrain.config.checking.nodes import TARGET
from dltrain.config.compose import Composed, compose_over
from dltrain.config.overrides import expand_home, take
from dltrain.config.policy import locate
from dltrain.config.read import read_mapping
from dltrain.config.renamed import with_current_names
from dltrain.data.io.places import AbsentDataError
from dltrain.data.repeated import NoBatches
from dltrain.device import Device
from dltrain.engine import Engine, Metrics, Resume, Stage
from dltrain.errors import InputError, UsageError, first_names
from dltrain.experiment.experiment import Experiment
from dltrain.options import Options
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.find import find
from dltrain.runs.folder import CHECKPOINTS, CONFIG, RunFolder
from dltrain.runs.initial_runs import with_initial_runs
from dltrain.types import CountsUnknownTokens, Data, RendersEpisodes
from dltrain.user_code import location_of_user_code

log = logging.getLogger("dltrain")

CHECKPOINT_NAME = re.compile(r"last|best|best-[1-9]\d*|\d+|epoch:[1-9]\d*")  # checkpoint=
MAX_NAMES_SHOWN = 20
OUTPUT = "paths.output"
MAX_REASON_CHARS = 300
STATE_TYPES: dict[str, type] = {  # of the keys of an engine's state
    "index": int,
    "step": int,
    "epoch": int,
    "position": int,
    "name": str,
    "task": dict,
    "optims": list,
    "callbacks": dict,
    "batches": dict,
}


def output_root(options: Options) -> Path:
    """Return the folder of the runs, as the overrides set it."""
    paths, _ = take(options.overrides, [OUTPUT])
    return Path(expand_home(paths.get(OUTPUT, "outputs")))


def find_run(options: Options) -> tuple[RunFolder, list[str]]:
    """Return the run that the first word after the verb names, and the overrides left to apply.

    It is searched for under paths.output as the overrides set it.
    """
    if not options.names:
        raise UsageError(
            "name a run: its folder, a unique part of the folder's name, `last` for the newest, or "
            "`last-any` where debug runs count too"
        )
    _, others = take(options.overrides, [OUTPUT])
    root = output_root(options)
    name = options.names[0]
    run = find(name, root)
    if not Path(name).exists():
        options.found_run = str(run.folder)
    return run, others


def find_runs(options: Options) -> tuple[list[RunFolder], list[str]]:
    """Return the runs that all words after the verb name, and the overrides left to apply."""
    first, others = find_run(options)
    root = output_root(options)
    return [first, *(find(name, root) for name in options.names[1:])], others


def saved_configuration(run: RunFolder, overrides: list[str]) -> Composed:
    """Return the run's saved configuration with `overrides` over it.

    A saved configuration is data: its plugins count only if the command line names them again. The
    runs that it names are those that the names meant when the run began.
    """
    saved = read_mapping(run.folder / CONFIG, InputError)
    if not saved:
        raise InputError(f"{run.folder / CONFIG} is not a configuration: it is empty")
    current = with_initial_runs(with_current_names(saved), run)
    return compose_over({**current, "plugins": []}, overrides)


def load_trained(run: RunFolder, pointer: str) -> tuple[Path, Resume]:
    """Return the checkpoint to evaluate or predict with, and where it places an engine.

    It is the one that was named by its folder, else the one that `pointer` names: best (or the
    last, if none was evaluated), last, best-2 and so on, a step, or epoch:N. The run may be
    training meanwhile. Raises InputError for an unknown name or a damaged checkpoint.
    """
    store = Store(run.folder / CHECKPOINTS)
    if run.checkpoint is not None:
        folder, state = run.checkpoint, checkpoint.load(run.checkpoint)
    elif pointer in ("best", "last"):
        newest = store.read(pointer) or store.read("last")
        if newest is None:
            raise InputError(f"{run.folder} has no checkpoint yet")
        folder, state = newest
    else:
        folder = require_checkpoint(run, store, pointer)
        state = checkpoint.load(folder)
    require_engine_state(folder, state)
    return folder, Resume(state, store.stage_ends(state["index"]))


def require_checkpoint_name(name: str) -> None:
    """Raise UsageError for a value of checkpoint= that names no checkpoint of any run."""
    if not CHECKPOINT_NAME.fullmatch(name):
        raise UsageError(
            f"checkpoint={name}: expected best, last, best-2 (the second best, and so on), a step "
            "such as 300, or the end of an epoch such as epoch:3"
        )


def require_checkpoint(run: RunFolder, store: Store, name: str) -> Path:
    """Return the folder of a run's checkpoint; InputError with those that exist if it is absent."""
    folder = store.named(name)
    if folder is None:
        existing = first_names(store.names(), MAX_NAMES_SHOWN) or "none yet"
        raise InputError(
            f"checkpoint={name} is not one of the checkpoints of {run.folder}: {existing} "
            "(checkpoints.keep=K keeps the K best ones, checkpoints.every=N every N-th epoch's)"
        )
    return folder


def require_engine_state(folder: Path, state: dict[str, Any]) -> None:
    """Raise InputError if a whole checkpoint holds something else than an engine's state."""
    wrong = [key for key, kind in STATE_TYPES.items() if not _is_valid(state.get(key), kind)]
    wrong = wrong or _wrong_parts(state)
    if wrong:
        keys = ", ".join(wrong)
        raise InputError(
            f"{folder} is not a checkpoint of a run: its {keys} cannot be what was saved"
        )


def _wrong_parts(state: dict[str, Any]) -> list[str]:
    """Return the keys whose states of optimizers and callbacks are not mappings."""
    parts = [*state["optims"], *state["callbacks"].values()]
    if all(isinstance(part, dict) for part in parts):
        return []
    return ["optims", "callbacks"]


def _is_valid(value: Any, kind: type) -> bool:
    """Tell if a value has the right type, and a number is not negative."""
    is_negative = isinstance(value, int) and value < 0
    return isinstance(value, kind) and not is_negative


def position(experiment: Experiment, where: Resume) -> Engine:
    """Return an engine without callbacks, positioned where a checkpoint was saved.

    Raises InputError if the checkpoint does not fit the experiment.
    """
    task = experiment.task
    device = experiment.device
    engine = Engine((), device.feed(), device.autocast())
    try:
        engine.position_at(task, where)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as e:
        if location_of_user_code(e):
            raise
        reason = " ".join(str(e).split())[:MAX_REASON_CHARS]
        raise InputError(
            f"the checkpoint does not fit the configuration as it is now: {reason}"
        ) from e
    return engine


@dataclass
class TrainedRun:
    """A run with the weights of a checkpoint, ready to predict; its training data is not read.

    `reader` is the run's data set, which encodes inputs as the run was trained on them. `model` is
    the network of the task, and `config` the run's configuration.
    """

    run: RunFolder
    checkpoint: Path
    engine: Engine
    reader: Data
    seed: int
    model: nn.Module
    device: Device
    config: dict[str, Any]

    def keep_for_prediction(self) -> None:
        """Use the averaged weights for good, and drop what only training needs.

        The states of the optimizers take twice as much memory as the weights.
        """
        engine = self.engine
        for optim in engine.stage.optims:
            optim.use_averages()
        engine.stage = Stage(engine.stage.name, engine.stage.epochs, NoBatches(), step=no_step)
        engine.task.eval()


def open_trained(
    run: RunFolder, overrides: list[str], pointer: str, device: dict[str, Any] | None = None
) -> TrainedRun:
    """Load the checkpoint of `run` that `pointer` (best or last) means.

    The training data need not be there: its means and vocabulary lie in the run's manifest.
    `device` are settings of another device than the run's own.
    """
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    folder, where = load_trained(run, pointer)
    description = run.description()
    require_known_data(run, composed.config, description)
    config = composed.config
    if device is not None:
        config = {**config, "device": device}
    experiment = Experiment.to_predict(config, description)
    engine = position(experiment, where)
    return TrainedRun(
        run,
        folder,
        engine,
        experiment.configured_data,
        config["seed"],
        engine.task.trained_network(experiment.model),
        experiment.device,
        config,
    )


def require_known_data(
    run: RunFolder, config: dict[str, Any], description: dict[str, Any] | None
) -> None:
    """Raise InputError if a run on fake data learned nothing by which inputs are read.

    Warn if it did, because its predictions mean nothing. Environments are never fake.
    """
    dataset = locate(config["dataset"][TARGET], config["plugins"])
    is_environment = isinstance(dataset, type) and issubclass(dataset, RendersEpisodes)
    if config["debug"] != "smoke" or is_environment:
        return
    fake = f"{run.folder} was trained on fake data (debug=smoke)"
    if not description:
        raise InputError(
            f"{fake}, so it knows no words, columns or scales to read inputs by; "
            "train it without debug=smoke"
        )
    log.warning(f"{fake}: what it predicts means nothing")


@contextmanager
def reading_data_set() -> Iterator[None]:
    """Say in the error for an absent data set why it is needed, and what does not need it."""
    try:
        yield
    except AbsentDataError as e:
        raise InputError(
            f"{e}\nthe samples of a split are in the data set, not in the run's folder; "
            "predictions of files or texts need no data set: dltrain predict RUN INPUT..."
        ) from e


def no_step(batch: Any) -> Metrics:
    """Return no metrics: the step of a stage that is not trained any more."""
    return {}


@contextmanager
def averaged_weights(engine: Engine) -> Iterator[None]:
    """Put the task into evaluation mode, with averaged weights if its last stage averages them."""
    engine.task.eval()
    with ExitStack() as stack:
        for optim in engine.stage.optims:
            stack.enter_context(optim.averaged())
        yield


@contextmanager
def evaluation_mode(engine: Engine) -> Iterator[None]:
    """Let the task predict as it was scored: with averaged weights, without gradients."""
    with averaged_weights(engine), torch.no_grad(), engine.autocast:
        yield


def unknown_tokens(reader: Data) -> dict[str, dict[str, int]]:
    """Log and return the tokens of the texts that the run's vocabulary lacks, with their counts."""
    if not isinstance(reader, CountsUnknownTokens) or not reader.unknown_tokens.counts:
        return {}
    log.warning(reader.unknown_tokens.message())
    return {"unknown_tokens": dict(reader.unknown_tokens.counts.most_common())}
