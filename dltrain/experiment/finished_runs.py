"""Opens the networks of finished runs that the settings of a task name, such as teachers.

A network reads the inputs of the current run. Therefore it is opened only if both runs have the
same classes in the same order, and inputs of the same shape that were encoded in the same way. The
standardization of images may differ: it is a scale and a shift of each channel, which are undone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.config.checking.declared import declared
from dltrain.config.checking.nodes import TARGET
from dltrain.config.policy import locate
from dltrain.data.dataset import shown_names
from dltrain.errors import ConfigError, InputError
from dltrain.experiment.weight_source import find_source
from dltrain.files import to_json
from dltrain.runs.folder import RunFolder
from dltrain.shell import setting
from dltrain.tasks.classification import Classification
from dltrain.types import FinishedRuns, Spec, TrainedNetwork

if TYPE_CHECKING:
    from dltrain.experiment.experiment import Experiment
    from dltrain.runs.open import TrainedRun

POINTER = "best"  # the checkpoint of a run whose checkpoint is not named
OF_ONE_PROCESS = {  # settings of a device with which a network is opened to predict
    "processes": 1,
    "parallel": "ddp",
    "compile": "off",
    "checkpoint_activations": False,
    "tune": False,
}
OF_THE_SAMPLES = ("class_counts", "digest")  # parts of a description that inputs are not read by
PIXELS = "pixels"  # the rule of a description by which pixels became bytes


class RunOpener(FinishedRuns, Protocol):
    """Opens the finished runs of an experiment, or stands in for them."""

    def resolve(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration to build the task from, once the runs are checked."""


RunsSource = Callable[["Experiment"], RunOpener]


def run_settings(config: dict[str, Any]) -> dict[str, tuple[str | int, ...]]:
    """Return the names of runs in the settings of the task, by their keys; see `Task.run_keys`."""
    task = config["task"]
    keys = declared(locate(task[TARGET], config["plugins"])).run_keys
    return {f"task.{key}": tuple(task[key]) for key in keys if task.get(key)}


def configured_runs(config: dict[str, Any]) -> RunsSource:
    """Return what opens the runs for a training; `debug=smoke` opens no file."""
    return FakeRuns if config["debug"] == "smoke" else OpenedRuns


def runs_when_needed(config: dict[str, Any]) -> RunsSource:
    """Return what opens the runs for an evaluation, which may need none of them."""
    return FakeRuns if config["debug"] == "smoke" else RunsWhenNeeded


class FakeRuns:
    """Stands in for runs where training is tried on fake data: copies of the run's own network."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def resolve(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return `config` as it is."""
        return config

    def network(self, key: str, name: str | int) -> TrainedNetwork:
        """Return a copy of the network of the experiment."""
        network = without_gradients(copy.deepcopy(self.experiment.model))
        class_names = self.experiment.data.spec.class_names
        return TrainedNetwork(str(name), network, network, class_names, is_fake=True)


class RunsWhenNeeded:
    """Opens a run when its network is asked for: its folder may be gone if it is not."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.opened: dict[Path, TrainedNetwork] = {}

    def resolve(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return `config` as it is."""
        return config

    def network(self, key: str, name: str | int) -> TrainedNetwork:
        """Return the network of a run; see `FinishedRuns.network`."""
        try:
            run = find_source(key, str(name), self.experiment.config)
            place = named_place(run)
            if place not in self.opened:
                self.opened[place] = opened_for(run, self.experiment)
        except (InputError, ConfigError) as e:
            raise InputError(f"{setting(key, [str(name)])}: {e}") from e
        return self.opened[place]


class OpenedRuns(RunsWhenNeeded):
    """Opens all runs before the task is built, so that a wrong name ends the command at once."""

    def resolve(self, config: dict[str, Any]) -> dict[str, Any]:
        """Open every run; return `config` with their folders, whatever names they were given by.

        The newest run is another one when the folder of this run is made.
        """
        task = dict(config["task"])
        for key, names in run_settings(config).items():
            folders = []
            for name in names:
                self.network(key, name)
                folders.append(str(named_place(find_source(key, str(name), config))))
            task[key.removeprefix("task.")] = folders
        return {**config, "task": task}


def named_place(run: RunFolder) -> Path:
    """Return the folder of a run, or of the checkpoint of it that was named."""
    return (run.checkpoint or run.folder).absolute()


def opened_for(run: RunFolder, experiment: Experiment) -> TrainedNetwork:
    """Return the network of a run, after checking that it reads the inputs of `experiment`.

    Raises:
        InputError: It does not, or it has no checkpoint.
    """
    trained = trained_run(run, experiment)
    task = trained.engine.task
    if not isinstance(task, Classification):
        raise InputError(
            f"{run.folder} is a run of {type(task).__name__}: a run of a classifier is needed"
        )
    _ = experiment.data.train.samples  # reads the data: its statistics may not be known before
    require_same_classes(trained.reader.spec, experiment.data.spec, run)
    require_same_inputs(trained, experiment)
    network = without_gradients(task.model)
    model = nn.Sequential(network)
    adapted = restandardization(experiment.data.spec, trained.reader.spec)
    if adapted is not None:
        model = nn.Sequential(adapted.to(experiment.device.torch_device()), network)
    return TrainedNetwork(run.folder.name, model.eval(), network, trained.reader.spec.class_names)


def trained_run(run: RunFolder, experiment: Experiment) -> TrainedRun:
    """Return a finished run with its trained weights, on the device of `experiment`.

    The random generators and the number of threads stay as they are.
    """
    from dltrain.runs.open import open_trained

    device = {**experiment.config["device"], **OF_ONE_PROCESS}
    plugins = [setting("plugins", experiment.plugins)] if experiment.plugins else []
    threads = torch.get_num_threads()
    with rng.preserved(), torch.autocast(experiment.device.torch_device().type, enabled=False):
        trained = open_trained(run, plugins, POINTER, device)
        trained.keep_for_prediction()
    torch.set_num_threads(threads)
    return trained


def without_gradients(network: nn.Module) -> nn.Module:
    """Put a network into evaluation mode, without gradients, and return it."""
    return network.requires_grad_(False).eval()


def require_same_classes(trained: Spec, current: Spec, run: RunFolder) -> None:
    """Raise InputError unless both have the same classes in the same order."""
    theirs, ours = trained.class_names, current.class_names
    if theirs == ours:
        return
    if set(theirs) == set(ours):
        raise InputError(
            f"{run.folder} has the classes of this run in another order: "
            f"{shown_names(theirs)}, and here {shown_names(ours)}"
        )
    raise InputError(
        f"{run.folder} has other classes than this run: "
        f"{shown_names(theirs)}, and here {shown_names(ours) or 'none'}"
    )


def require_same_inputs(trained: TrainedRun, experiment: Experiment) -> None:
    """Raise InputError unless a network can read the inputs of `experiment`."""
    theirs, ours = trained.reader.spec, experiment.data.spec
    if not fits_shape(theirs, ours):
        raise InputError(
            f"{trained.run.folder} reads inputs of the shape {theirs.input_shape}, and those of "
            f"this run have the shape {ours.input_shape}"
        )
    read = trained.run.description() or {}
    own = experiment.described()
    different = [key for key in encoding_keys(read, own, ours) if not equal(read, own, key)]
    if different:
        raise InputError(
            f"the inputs of {trained.run.folder} were encoded in another way than those of this "
            f"run ({', '.join(different)}): train both on the same data, with the same settings "
            "and the same split"
        )
    if preprocessing(trained.config) != preprocessing(experiment.config):
        raise InputError(
            f"{trained.run.folder} changes its inputs by another preprocessing= than this run, "
            "also in predictions: use the same in both"
        )


def fits_shape(trained: Spec, current: Spec) -> bool:
    """Return whether a network reads inputs of the current shape; texts may be shorter."""
    if current.vocab_size and trained.vocab_size == current.vocab_size:
        return current.input_shape[0] <= trained.input_shape[0]
    return current.input_shape == trained.input_shape


def encoding_keys(read: Mapping[str, Any], own: Mapping[str, Any], spec: Spec) -> list[str]:
    """Return the keys of two descriptions that inputs are encoded by.

    For images that is the rule for the pixels of files, where both have one.
    """
    if spec.is_image:
        return [key for key in (PIXELS,) if key in read and key in own]
    return sorted((read.keys() | own.keys()) - set(OF_THE_SAMPLES))


def equal(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Return whether two descriptions have equal values, as JSON writes them."""
    return to_json(one.get(key)) == to_json(other.get(key))


def preprocessing(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of the preprocessing that predictions have, too."""
    nodes = config.get("preprocessing", {}).values()
    plugins = config["plugins"]
    return [n for n in nodes if not declared(locate(n[TARGET], plugins)).training_only]


class Restandardize(nn.Module):
    """Maps images that are standardized in one way to another: x times a scale, plus a shift.

    Both are (C, 1, 1), computed in double precision. `source` and `target` have the mean and the
    standard deviation of each channel in 0..255.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, source: Spec, target: Spec) -> None:
        super().__init__()
        source_mean, source_std = doubles(source.mean), doubles(source.std)
        target_mean, target_std = doubles(target.mean), doubles(target.std)
        self.register_buffer("scale", (source_std / target_std).float())
        self.register_buffer("shift", ((source_mean - target_mean) / target_std).float())

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as the target standardizes them."""
        return images * self.scale + self.shift


def doubles(values: tuple[float, ...]) -> Tensor:
    """Return numbers of each channel as a tensor (C, 1, 1)."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def restandardization(source: Spec, target: Spec) -> Restandardize | None:
    """Return what maps images of `source` to those of `target`; None if they are the same."""
    is_same = (source.mean, source.std) == (target.mean, target.std)
    return None if is_same or not source.is_image else Restandardize(source, target)
