"""The only place where `_target_` nodes become objects: a checked configuration in, a task and its engine out."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain import __version__, rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.callbacks.limits import Limits
from dltrain.callbacks.memory import Memory
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.callbacks.profile import Profile
from dltrain.callbacks.signals import Signals
from dltrain.callbacks.timer import Timer
from dltrain.config.balance import balanced_loss
from dltrain.config.check import OPTIMIZERS, PARTIAL, TARGET, own_optimizer
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.config.settings import Trainer
from dltrain.data.repeated import Repeated
from dltrain.device import Device, most_flops
from dltrain.engine import Callback, Direction, Engine, Task
from dltrain.errors import ConfigError
from dltrain.files import to_json
from dltrain.optim import Optim
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, METRICS, Run, find
from dltrain.tasks.directions import watch_direction
from dltrain.types import Continues, Data, Interval, Standardizes
from dltrain.weights.freezing import Freezing, chosen
from dltrain.weights.initial import Beginning, of_run, published, trained_weights
from dltrain.weights.word_vectors import KEY, take_vectors, tokens_of

log = logging.getLogger("dltrain")
UNLIMITED = sys.maxsize


@dataclass
class Experiment:
    """What a configuration describes, built: everything but the run's folder."""

    config: dict[str, Any]
    device: Device
    data: Data
    task: Task
    trainer: Trainer
    callbacks: dict[str, Callback]


def make(
    node: dict[str, Any],
    path: str,
    available: dict[str, Any],
    plugins: list[str],
    settings: dict[str, Any] | None = None,
) -> Any:
    """Build one node: its own keys, over them `settings` from elsewhere, and what it asks for by name from `available`.

    Raises ConfigError for an argument that nobody gives, and for values that the target itself refuses.
    """
    target = locate(node[TARGET], plugins)
    taken = arguments(target)
    given: dict[str, Any] = {}
    for name, value in node.items():
        if name in (TARGET, PARTIAL):
            continue
        given[name] = _built(value, f"{path}.{name}", available, plugins)
    given |= settings or {}
    given |= {name: available[name] for name in taken if name in available and name not in given}
    if node.get(PARTIAL):
        return functools.partial(target, **given)
    missing = [name for name, a in taken.items() if a.required and name not in given]
    if missing:
        needs = ", ".join(f"{path}.{name}" for name in missing)
        later = ", or with _partial_: true it is called later" if inspect.isfunction(target) else ""
        raise ConfigError(
            [
                (
                    f"{path}={node[TARGET]}",
                    f"needs {needs}, which this data set and task do not say: set it{later}",
                )
            ]
        )
    try:
        return target(**given)
    except ValueError as e:
        raise ConfigError([(path, str(e))]) from e


def _built(value: Any, path: str, available: dict[str, Any], plugins: list[str]) -> Any:
    """One argument as its target takes it: nodes built, also those of a mapping, and lists as tuples."""
    if isinstance(value, dict) and TARGET in value:
        return make(value, path, available, plugins)
    if isinstance(value, dict):
        return {
            name: _built(child, f"{path}.{name}", available, plugins)
            for name, child in value.items()
        }
    return tuple(value) if isinstance(value, list) else value


def build(
    config: dict[str, Any],
    fake: bool = False,
    trained: bool = False,
    description: dict[str, Any] | None = None,
    continued: dict[str, Any] | None = None,
) -> Experiment:
    """Everything of a checked configuration but its run folder.

    `fake` (and debug=smoke) replaces the data by fakes and any run to begin with by a fresh
    network. `trained` says that a checkpoint will be loaded: initial weights do not matter.
    `description` is of the data that it was trained on, and `continued` too, where training
    continues.
    """
    debug = config["debug"]
    plugins = config["plugins"]
    rng.seed_all(config["seed"])
    device: Device = make(config["device"], "device", {}, plugins)
    device.set_up()
    trainer: Trainer = make(config["trainer"], "trainer", {}, plugins)
    named = {"root": Path(config["paths"]["data"]), "seed": config["seed"]}
    named["predicts"] = getattr(locate(config["task"][TARGET], plugins), "predicts", "")
    settings = regularization(config["regularization"] if debug != "overfit" else {}, plugins)
    preprocessing = [
        make(node, f"preprocessing.{name}", {}, plugins)
        for name, node in config.get("preprocessing", {}).items()
    ]
    if preprocessing or "transforms" in settings["dataset"]:
        settings["dataset"]["transforms"] = [
            *preprocessing,
            *settings["dataset"].get("transforms", []),
        ]
    data: Data = make(config["dataset"], "dataset", named, plugins, settings["dataset"])
    if description:
        data.restore(description)
    if continued and isinstance(data, Continues):
        data.continue_as(continued)
    try:
        _ = data.spec
    except ValueError as e:
        raise ConfigError([("preprocessing", str(e))]) from e
    samples = batch_size(config, data)
    if fake or debug == "smoke":
        data = data.fake()
    held = data
    data.to(device.torch_device())
    if debug == "overfit":
        data = Repeated(data)
    if data.spec.cardinalities and "cardinalities" not in arguments(
        locate(config["model"][TARGET], plugins)
    ):
        why = "this model would take the codes of categories for numbers: model=tabular_mlp, or dataset.categories=onehot"
        raise ConfigError([("model", why)])
    model: nn.Module = make(
        config["model"], "model", data.spec.arguments(), plugins, settings["model"]
    )
    if "initialization" in config and not trained:
        make(config["initialization"], "initialization", {}, plugins)(model)
    embedding = config["model"].get("embedding")
    if isinstance(embedding, dict) and embedding.get("from") is not None:
        layer = tokens_of(model, data)
        layer.weight.requires_grad_(not embedding.get("frozen"))
        if not (fake or trained or debug == "smoke"):
            words = find(str(embedding["from"]), Path(config["paths"]["output"]))
            take_vectors(layer, data, words, trained_weights(words, KEY), make)
    beginning = None if fake or trained or debug == "smoke" else begin_with(config, model)
    if beginning and isinstance(held, Standardizes):
        beginning.standardize(held)
    freezing = frozen(config, model, trainer)
    known = {
        **data.spec.arguments(),
        "class_counts": lambda: data.class_counts,
    }  # the latter only when it is asked for
    loss_node = balanced_loss(config, bool(data.spec.class_names), settings["loss"])
    loss = make(loss_node, "loss", known, plugins, settings["loss"])
    watch = watched(config, trainer)
    direction = TaskDirection()
    task: Task = make(
        {key: value for key, value in config["task"].items() if key != OPTIMIZERS},
        "task",
        {
            **data.spec.arguments(),
            "data": data,
            "model": model,
            "loss": loss,
            "optim": optim_factory(config, trainer, device, settings["optim"], plugins, direction),
            "epochs": trainer.epochs or UNLIMITED,
            "watch": watch,
            "freezing": freezing,
            **({"mode": trainer.mode} if trainer.mode else {}),
        },
        plugins,
    )
    direction.value = watched_direction(task, config, trainer)
    if beginning:
        beginning.take_over(task)
    if trainer.on_oom == "halve" and data.spec.continues:
        why = "a state is carried from batch to batch, and no part of one can go on with it: on_oom=stop, or a smaller"
        raise ConfigError(
            [("trainer.on_oom=halve", f"dataset.stream=true: {why} dataset.batch_size")]
        )
    device.choose_threads(most_flops(task, data.spec, samples))
    device.place(task)
    return Experiment(config, device, data, task, trainer, settings["callbacks"])


def batch_norms(task: nn.Module) -> list[nn.Module]:
    """Return the layers of batch norm that compute statistics of a batch in training."""
    norms = (nn.modules.batchnorm._BatchNorm,)
    return [module for module in task.modules() if isinstance(module, norms)]


def batch_size(config: dict[str, Any], data: Data) -> int:
    """Return the batch size that is set."""
    wanted = config["dataset"].get("batch_size", 64)
    return data.spec.train_samples if wanted == "all" else int(wanted)


def smallest_batch(task: nn.Module) -> int:
    """Return how many samples a training batch needs: batch norm computes a variance, from two at
    least.
    """
    return 2 if any(norm.training for norm in batch_norms(task)) else 1


def require_batches_for_norm(experiment: Experiment) -> None:
    """Raise ConfigError if batch norm would have to compute a variance from one value per channel.

    A rest of one sample is joined to the batch before it (`data/split.py`), so only a batch size of
    1 or a training set of one sample can cause it. A forward pass tells: one image has many values
    per channel.
    """
    data = experiment.data
    size = min(data.train.batch_size, data.train.samples)
    if (
        size == 1
        and batch_norms(experiment.task)
        and not normalizes(experiment, next(data.train.epoch(0)))
    ):
        why = "batch norm needs at least two samples a batch"
        if data.train.samples == 1:
            why = f"there is 1 training sample, and {why}"
        raise ConfigError(
            [(f"dataset.batch_size={size}", f"{why}: use more, or a model without batch norm")]
        )


def normalizes(experiment: Experiment, batch: Any) -> bool:
    """Return whether batch norm can compute its statistics from `batch`; the task stays as it is.

    A prediction tells. Layers that it does not reach, as a generator's, cannot if they see one
    value per channel.
    """
    task = experiment.task
    before = {
        name: value.clone() for name, value in task.state_dict().items() if torch.is_tensor(value)
    }
    task.eval()
    reached: set[nn.Module] = set()
    hooks = []
    for norm in batch_norms(task):
        norm.train()
        hooks.append(norm.register_forward_pre_hook(lambda module, _: reached.add(module)))
    inputs = experiment.device.mover()(batch)
    try:
        with torch.no_grad(), experiment.device.autocast(), rng.preserved():
            task.predict(inputs[0] if isinstance(inputs, tuple | list) else inputs)
    except ValueError as e:
        if "more than 1 value per channel" not in str(e):
            raise
        return False
    finally:
        for hook in hooks:
            hook.remove()
        task.load_state_dict(before, strict=False)
        task.train()
    return not any(
        isinstance(norm, nn.BatchNorm1d) and norm not in reached for norm in batch_norms(task)
    )


@dataclass
class TaskDirection:
    """Which way the task's watched metric is better: the task says so once it is built, after its
    optimizer factory.
    """

    value: Direction = "max"


def own_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of the task's signature."""
    taken = arguments(locate(config["task"][TARGET], config["plugins"]))
    return {name: argument.default for name, argument in taken.items() if not argument.required}


def watched(config: dict[str, Any], trainer: Trainer) -> str:
    """Return the metric that says which evaluation is best: the trainer's, or the task's own."""
    return own_settings(config).get("watch", "") if trainer.watch is None else trainer.watch


def watched_direction(task: Task, config: dict[str, Any], trainer: Trainer) -> Direction:
    """Return which way the watched metric is better; ConfigError if nothing says so.

    A task of the user's own may declare it for its own metric by a default of its argument `mode`.
    """
    own = own_settings(config)
    mode = trainer.mode
    if mode is None and trainer.watch in (None, own.get("watch")):
        mode = own.get("mode")
    watch = task.watch if trainer.watch is None else trainer.watch
    try:
        return watch_direction(task, watch, mode)
    except ValueError as e:
        raise ConfigError([(f"trainer.watch={watch}", str(e))]) from e


def begin_with(config: dict[str, Any], model: nn.Module) -> Beginning | None:
    """The weights that a configuration begins with, if any; ConfigError where it names two, or such as there are not."""
    init = config.get("init", {})
    run, weights = init.get("from"), init.get("weights")
    if run is not None and weights is not None:
        raise ConfigError([("init.weights", "init.from is set too: begin with one of them")])
    if run is not None:
        return of_run(find(str(run), Path(config["paths"]["output"])))
    return published(model, str(weights)) if weights is not None else None


def frozen(config: dict[str, Any], model: nn.Module, trainer: Trainer) -> Freezing:
    """What of `model` is frozen, after saying so; ConfigError for a name of none, or an end that is never reached."""
    patterns, until = config.get("freeze") or [], config.get("unfreeze_epoch")
    factors = config.get("lr_factors") or {}
    problems: list[tuple[str, str]] = []
    if until is not None and not patterns:
        problems.append((f"unfreeze_epoch={until}", "nothing is frozen: freeze=[...] says what"))
    if until is not None and trainer.epochs is not None and until >= trainer.epochs:
        problems.append(
            (
                f"unfreeze_epoch={until}",
                f"the run has {trainer.epochs} epoch{'s' * (trainer.epochs != 1)}: nothing is trained after that",
            )
        )
    if until is not None and "freezing" not in arguments(
        locate(config["task"][TARGET], config["plugins"])
    ):
        problems.append(
            (
                f"unfreeze_epoch={until}",
                "this task does not unfreeze: leave it out, or resume the run without",
            )
        )
    for pattern in factors:
        try:
            chosen(model, [pattern])
        except ValueError as e:
            problems.append(("lr_factors", str(e)))
    try:
        freezing = Freezing(model, patterns, until or 0)
    except ValueError as e:
        problems.append(("freeze", str(e)))
    if problems:
        raise ConfigError(problems)
    if freezing.names:
        count = sum(p.numel() for p in freezing.parameters)
        for_how_long = f" for {until} epochs" if until else ""
        log.info(
            f"frozen{for_how_long}: {len(freezing.names)} parameters ({count:,} numbers): {', '.join(freezing.names)}"
        )
    return freezing


def regularization(nodes: dict[str, Any], plugins: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of every chosen regularizer by destination: {"model": {"dropout": 0.5}, "optim": {...}, ...}."""
    settings: dict[str, dict[str, Any]] = {
        "model": {},
        "loss": {},
        "dataset": {},
        "optim": {},
        "callbacks": {},
    }
    for name, node in nodes.items():
        for destination, value in (
            make(node, f"regularization.{name}", {}, plugins).settings().items()
        ):
            place, _, key = destination.partition(".")
            before = settings[place].get(key)
            if isinstance(value, list):
                value = [*(before or []), *value]
            elif before is not None:
                raise ConfigError(
                    [(f"regularization.{name}", f"{destination} is set by another choice already")]
                )
            settings[place][key] = value
    return settings


def optim_factory(
    config: dict[str, Any],
    trainer: Trainer,
    device: Device,
    settings: dict[str, Any],
    plugins: list[str],
    direction: TaskDirection,
) -> Callable[..., Optim]:
    """What a task calls to train `modules` over `total_steps` batches by the chosen optimizer and
    schedule.

    With the name of a `network` the optimizer's settings are those of task.optimizers.<network>
    over the shared ones. `mode` is which way the stage's watched metric is better, where that is
    not `direction`, the task's.
    """
    factors = config.get("lr_factors") or {}
    optimizers = {"": usable(config["optimizer"], "optimizer", plugins, bool(factors))}
    for network in config["task"].get(OPTIMIZERS) or {}:
        own = own_optimizer(config, network)
        optimizers[network] = usable(own, f"task.{OPTIMIZERS}.{network}", plugins, bool(factors))
    node = {**config["schedule"], PARTIAL: True}
    if config["debug"] == "overfit":
        node = {TARGET: "dltrain.schedules.constant.Constant", PARTIAL: True}
    schedule = make(node, "schedule", {}, plugins)
    follows_metric = (
        "mode" in arguments(locate(node[TARGET], plugins)) and "mode" not in schedule.keywords
    )

    def optim(
        modules: nn.Module, total_steps: int, network: str = "", mode: str | None = None
    ) -> Optim:
        updates = math.ceil(min(total_steps, trainer.steps or total_steps) / trainer.accumulate)
        return Optim(
            modules,
            optimizers.get(network, optimizers[""]),
            schedule(
                total_updates=updates,
                **({"mode": mode or direction.value} if follows_metric else {}),
            ),
            accumulate=trainer.accumulate,
            scaler=device.scaler(),
            total_updates=updates,
            skip_nonfinite=trainer.skip_nonfinite > 0,
            lr_factors=factors,
            **settings,
        )

    return optim


def usable(
    node: dict[str, Any], path: str, plugins: list[str], in_groups: bool = False
) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer of `node`; ConfigError for settings that it refuses only when it is called, and if it is to take
    parameters `in_groups` and does not."""
    optimizer: Callable[..., torch.optim.Optimizer] = make(node, path, {}, plugins)
    params = [nn.Parameter(torch.zeros(1))]
    try:
        optimizer(params)
        if in_groups:
            optimizer([{"params": params}])
    except ValueError as e:
        raise ConfigError([(path, str(e))]) from e
    except (AttributeError, TypeError) as e:
        raise ConfigError(
            [("lr_factors", f"this optimizer takes one learning rate for all layers ({path})")]
        ) from e
    return optimizer


@dataclass
class Session:
    """An experiment with its engine, callbacks and run folder, ready to fit."""

    experiment: Experiment
    run: Run
    engine: Engine
    log: MetricsLog
    timer: Timer
    checkpoint: Checkpoint
    signals: Signals
    optional: dict[str, Callback]


def session(
    experiment: Experiment, run: Run, command: str = "", settings: dict[str, Any] | None = None
) -> Session:
    """The engine for `experiment`, writing into `run`'s folder; `settings` are what TensorBoard shows of its configuration.

    The callbacks' order matters: the log first, for it raises on a bad loss before anything is saved; the one that
    evaluates within an epoch after all that count steps, and before the one that saves, for a resume goes on at the next
    step; signals last, so that every other has seen the step.
    """
    config, trainer = experiment.config, experiment.trainer
    log, timer = MetricsLog(run, trainer.log_every), Timer(run)
    nonfinite, memory = (
        NonFinite(log, trainer.skip_nonfinite),
        Memory(trainer.on_oom == "halve", lambda: smallest_batch(experiment.task)),
    )
    limits = Limits(timer, trainer.steps, trainer.max_seconds)
    signals, checkpoint = (
        Signals(timer.continued),
        Checkpoint(
            Store(run.folder / CHECKPOINTS),
            None if trainer.save_every is None else Interval.parse(trainer.save_every),
            trainer.on_save_error,
            about={
                "config_sha256": hashlib.sha256(to_json(config, default=str).encode()).hexdigest()
            },
            sync=lambda: run.sync(METRICS),
        ),
    )
    available = {
        "run": run,
        "log": log,
        "timer": timer,
        "settings": settings or config,
        "command": command,
    }
    available["data"] = experiment.data
    optional = {
        name: make(node, f"callbacks.{name}", available, config["plugins"])
        for name, node in config["callbacks"].items()
        if node is not None
    }
    if config["debug"] == "profile":
        optional["profile"] = Profile(run)
    every = [EvaluateEvery(trainer.evaluate_every)] if trainer.evaluate_every else []
    chosen = [*experiment.callbacks.values(), *optional.values()]
    callbacks = [log, nonfinite, memory, timer, limits, *chosen, *every, checkpoint, signals]
    device = experiment.device
    engine = Engine(callbacks, device.mover(), device.autocast(), memory)
    return Session(experiment, run, engine, log, timer, checkpoint, signals, optional)


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def versions() -> dict[str, str]:
    """Of what decides the figures."""
    from importlib.metadata import version

    names = ("hydra-core", "numpy")
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "dltrain": __version__,
        **{n: version(n) for n in names},
    }
