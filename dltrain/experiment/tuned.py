"""`device=fast`: a new run's experiment with the fastest settings for its network and machine.

The settings are written into the configuration before the run's folder is made, so that resume,
evaluate and reproduce use the very same ones and measure nothing.
"""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain import __version__, rng
from dltrain.acceleration.candidates import Candidate, CandidateSpace, thread_counts
from dltrain.acceleration.rounding import has_tf32
from dltrain.acceleration.tuning import Measurements, Search
from dltrain.acceleration.tuning_cache import (
    as_plain,
    cache_file,
    measuring_alone,
    read_measurements,
    write_measurements,
)
from dltrain.acceleration.tuning_text import choice_line
from dltrain.config.compose import Composed
from dltrain.data.io.cache import CACHE
from dltrain.device import TORCH_THREADS, Device, cpu_is_fast_in_bf16, device_name
from dltrain.errors import Interrupted
from dltrain.experiment.data import batch_size
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.trials import TrialBench, with_device
from dltrain.machine import environment, machine
from dltrain.runs.identity import REQUESTED, TUNING, hash_of
from dltrain.types import Data, Spec

log = logging.getLogger("dltrain")
FREE = "auto"  # the value of a setting that may be chosen
COMPILATIONS = {"cpu": ["model"], "mps": [], "cuda": ["model", "step"]}
NETWORK_KEYS = (  # parts of a configuration that change what a step computes
    *("model", "task", "loss", "optimizer", "regularization", "debug"),
    *("freeze", "unfreeze_epoch", "lr_factors", "lora"),
)


@dataclass(frozen=True)
class Tuned:
    """The experiment of a new run, its configuration, and what the manifest says of the choice."""

    composed: Composed
    experiment: Experiment
    manifest: dict[str, Any] = field(default_factory=dict)


def experiment_to_train(composed: Composed) -> Tuned:
    """Build the experiment of a new run and read its data; first choose how the device is used.

    That is chosen if `device.tune` is set. The random generators end as they would without it.
    """
    config = composed.config
    if not config["device"].get("tune"):
        experiment = Experiment.to_train(config).build()
        _ = experiment.data.train.samples  # reads the data set
        return Tuned(composed, experiment)
    return TunedStart(composed).tuned()


class CannotMeasureError(Exception):
    """The reason why candidates cannot be measured."""


class TunedStart:
    """The start of a run with device=fast.

    `reference` is its experiment with the settings of device=auto, and `begin` the state of the
    generators once its data is known. `end` is their state once everything is built and read, if
    that had to be done before the settings were chosen.
    """

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        config = with_device(composed.config, untuned(composed.config))
        self.reference = Experiment.to_train(config)
        self.data = self.reference.selected_data
        self.spec = self.data.spec
        self.begin = rng.state_dict()
        self.end: dict[str, Any] | None = None

    def tuned(self) -> Tuned:
        """Choose the settings, from the cache if it has them, and build the run's experiment."""
        reason = reason_not_to_measure(self.composed.config, self.spec)
        if reason:
            return self.not_measured(reason)
        steps = planned_steps(self.reference, self.data)
        key = cache_key(self.composed.config, self.reference, self.data)
        folder = cache_folder(self.composed.config)
        path = cache_file(folder, key)
        measurements = cached(path, key, steps)
        is_cached = measurements is not None
        if measurements is None:
            self.build_reference()
            try:
                with measuring_alone(folder):
                    measurements = cached(path, key, steps) or self.measured(steps)
                    write_measurements(path, key, measurements)
            except CannotMeasureError as e:
                return self.not_measured(str(e))
        chosen = measurements.choice(limited(steps, self.reference, measurements))
        log.info(choice_line(chosen, measurements, is_cached))
        about = {"cached": is_cached, "tolerance": chosen.candidate.tolerance}
        return self.built(chosen.candidate.settings(), {**about, **as_plain(measurements)})

    def build_reference(self) -> None:
        """Build the reference and read its data, as the run itself would."""
        self.reference.build()
        _ = self.reference.data.train.samples
        self.end = rng.state_dict()

    def measured(self, steps: float) -> Measurements:
        """Measure; CannotMeasureError, with the reason, if that is impossible."""
        task = self.reference.task
        if not any(True for _ in task.parameters()):
            raise CannotMeasureError("the task has no network")
        log.info("device=fast: measuring the network on this machine, for later runs too")
        space = space_of(self.reference.device, self.composed.config["device"], task)
        max_seconds = self.reference.trainer.max_seconds or math.inf
        search = Search(TrialBench(self.reference), space, steps, max_seconds)
        try:
            with quiet():
                return search.run()
        except Interrupted:
            raise
        except Exception as e:  # if it is the run's own fault, the run will say so
            log.debug("device=fast cannot measure", exc_info=True)
            raise CannotMeasureError(f"{type(e).__name__}: {e}") from e
        finally:
            forget_compiled()

    def not_measured(self, reason: str) -> Tuned:
        """Build the run's experiment with the settings of device=auto."""
        log.info(f"device=fast: as device=auto, in fp32, because nothing was measured ({reason})")
        return self.built({}, {"reason": reason})

    def built(self, chosen: dict[str, Any], about: dict[str, Any]) -> Tuned:
        """Build the run's experiment with the `chosen` settings; keep them in its configuration."""
        device = self.composed.config["device"]
        settings = merged(self.composed.config, chosen)
        composed = replace(
            self.composed,
            config=with_device(self.composed.config, settings),
            public=with_device(self.composed.public, settings),
        )
        experiment = Experiment.with_data_of(self.reference, composed.config)
        rng.load_state_dict(self.begin)
        experiment.build()
        _ = experiment.data.train.samples  # reads the data set
        if self.end is not None:
            rng.load_state_dict(self.end)
        requested = {key: device.get(key) for key in settings}
        tuning = {REQUESTED: requested, "chosen": settings, **about}
        return Tuned(composed, experiment, {TUNING: tuning})


def with_known_choice(composed: Composed, data: Data) -> Composed:
    """Return the configuration that `check` measures: with the cached choice of device=fast.

    Nothing is timed. Without a cached choice it has the settings of device=auto; a line says which.
    """
    config = composed.config
    if not config["device"].get("tune") or config["debug"] == "smoke":
        return composed
    settings = untuned(config)
    experiment = Experiment.to_train(with_device(config, settings))
    key = cache_key(config, experiment, data)
    steps = planned_steps(experiment, data)
    measurements = cached(cache_file(cache_folder(config), key), key, steps)
    if measurements is None:
        log.info("device=fast: nothing is cached for this network; a run measures when it begins")
    else:
        chosen = measurements.choice(limited(steps, experiment, measurements))
        log.info(choice_line(chosen, measurements, is_cached=True))
        settings = merged(config, chosen.candidate.settings())
    return replace(composed, config=with_device(config, settings))


def merged(config: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a tuned device: the chosen ones where the user left them free."""
    device = config["device"]
    free = {key: value for key, value in chosen.items() if device.get(key) == FREE}
    return {**untuned(config), **free}


def untuned(config: dict[str, Any]) -> dict[str, Any]:
    """Return what device=auto has in place of the settings that may be chosen."""
    device = config["device"]
    defaults = {"precision": "fp32", "compile": "off"}
    free = {key: value for key, value in defaults.items() if device.get(key) == FREE}
    return {**free, "tune": False}


def reason_not_to_measure(config: dict[str, Any], spec: Spec) -> str:
    """Return the reason why a run is not measured; "" if it is."""
    if config["debug"] == "smoke":
        return "debug=smoke"
    if spec.actions:
        return "the task acts in an environment"
    return ""


def planned_steps(experiment: Experiment, data: Data) -> float:
    """Return how many steps a training is planned to make, about."""
    trainer = experiment.trainer
    samples = max(1, batch_size(experiment.config, data))
    steps = math.inf
    if trainer.epochs is not None:
        steps = trainer.epochs * math.ceil(data.spec.train_samples / samples)
    limits = [limit for limit in (trainer.steps, trainer.stage_steps) if limit is not None]
    return min([steps, *limits])


def limited(steps: float, experiment: Experiment, measurements: Measurements) -> float:
    """Return how many of the steps a training can make before its time limit."""
    seconds = experiment.trainer.max_seconds
    if seconds is None:
        return steps
    return min(steps, 1000 * seconds / measurements.reference.ms)


def cached(path: Path, key: str, steps: float) -> Measurements | None:
    """Return the cached measurements, if they are enough for a training of so many steps."""
    measurements = read_measurements(path, key)
    if measurements is None or not measurements.is_enough(steps):
        return None
    return measurements


def cache_folder(config: dict[str, Any]) -> Path:
    """Return the folder of the cached measurements."""
    return Path(config["paths"]["data"]) / CACHE


def cache_key(config: dict[str, Any], experiment: Experiment, data: Data) -> str:
    """Return a hash of all that the time and the losses of a step depend on."""
    device = experiment.device.torch_device()
    variables = {name: text for name, text in environment().items() if name != "DLTRAIN_DATA"}
    return hash_of(
        {
            "network": {key: config.get(key) for key in NETWORK_KEYS},
            "batch_size": batch_size(config, data),
            "accumulate": experiment.trainer.accumulate,
            "inputs": data.spec.arguments(),
            "continues": data.spec.continues,
            "device": config["device"],
            "device_name": [device.type, device_name(device)],
            "machine": machine(),
            "bf16": cpu_is_fast_in_bf16(),
            "threads": TORCH_THREADS,
            "environment": variables,
            "versions": [torch.__version__, __version__],
        }
    )


def space_of(device: Device, asked: dict[str, Any], task: nn.Module) -> CandidateSpace:
    """Return the candidates: the values that the user left free, where the hardware has them."""
    kind = device.torch_device().type
    channels_last = None
    if any(weight.ndim == 4 for weight in task.parameters()):
        channels_last = device.resolved_channels_last()
    threads = 0
    if kind == "cpu":
        threads = torch.get_num_threads()
    precision = device.resolved_precision()
    compilation = device.resolved_compile()
    reference = Candidate(precision, channels_last, compilation, threads)
    precisions = [precision]
    if asked.get("precision") == FREE:
        precisions += low_precisions(device.torch_device())
    formats = [channels_last]
    if channels_last is not None and asked.get("channels_last") == FREE:
        formats.append(not channels_last)
    compilations = [compilation]
    if asked.get("compile") == FREE:
        compilations += COMPILATIONS[kind]
    counts = [threads]
    if threads and asked.get("threads") == FREE:
        counts += thread_counts(TORCH_THREADS)
    return CandidateSpace(
        reference, tuple(precisions), tuple(formats), tuple(compilations), tuple(counts)
    )


def low_precisions(device: torch.device) -> list[str]:
    """Return the precisions besides fp32 that a device computes quickly."""
    names = []
    if has_tf32(device):
        names.append("tf32")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            names.append("bf16")
        names.append("fp16")
    elif device.type == "cpu" and cpu_is_fast_in_bf16():
        names.append("bf16")
    return names


@contextmanager
def quiet() -> Iterator[None]:
    """Show neither messages nor warnings of networks that are only measured."""
    log.addFilter(is_detail)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeFilter(is_detail)


def is_detail(record: logging.LogRecord) -> bool:
    """Tell if a record is for those who look for a fault."""
    return record.levelno <= logging.DEBUG


def forget_compiled() -> None:
    """Drop what torch.compile keeps of the measured networks, if it was used."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
    torch.clear_autocast_cache()
