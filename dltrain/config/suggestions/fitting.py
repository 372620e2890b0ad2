"""The models that can read a data set, found by the arguments that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dltrain.config.checking.nodes import TARGET
from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.defaults import Choice
from dltrain.config.groups import groups, read_option
from dltrain.config.policy import PACKAGES, locate, under
from dltrain.config.schema import Argument, arguments
from dltrain.errors import ConfigError, UsageError, first_names
from dltrain.types import Spec

MAX_MODELS_SHOWN = 6
NEEDED_DATA = {  # the data that has an argument of a model, the most special first
    "num_states": "an environment with numbered states",
    "num_actions": "an environment",
    "target_vocab_size": "pairs of texts",
    "target_length": "pairs of texts",
    "in_channels": "images",
    "image_size": "images",
    "vocab_size": "texts",
    "max_length": "texts",
    "window": "a time series",
    "input_size": "a time series",
    "num_classes": "classes, or numbers to predict",
}


@dataclass(frozen=True)
class DataKind:
    """A kind of data in words, and the argument that models for just this kind ask for.

    `includes` returns something true for the shape of a data set of this kind.
    """

    name: str
    argument: str
    includes: Callable[[Spec], object]


KINDS = (  # the first that includes the data counts
    DataKind("an environment with numbered states", "num_states", lambda spec: spec.num_states),
    DataKind("an environment", "num_actions", lambda spec: spec.actions),
    DataKind("pairs of texts", "target_vocab_size", lambda spec: spec.target_vocab_size),
    DataKind("texts with classes", "vocab_size", lambda spec: spec.vocab_size and spec.num_classes),
    DataKind("running text", "vocab_size", lambda spec: spec.vocab_size),
    DataKind("images with boxes", "in_channels", lambda spec: spec.boxes),
    DataKind("images", "in_channels", lambda spec: spec.is_image),
    DataKind("a time series", "input_shape", lambda spec: len(spec.input_shape) == 2),
    DataKind("a table", "in_features", lambda spec: True),
)


def kind_of(spec: Spec) -> DataKind:
    """Return the kind of the data that `spec` describes."""
    return next(kind for kind in KINDS if kind.includes(spec))


def require_model_for_data(config: dict[str, Any], spec: Spec, filled: Mapping[str, Any]) -> None:
    """Raise ConfigError if the model cannot read the data, with the models that can.

    `filled` are arguments of the model that regularizers set. A model of the user's own that needs
    an argument which no data has is left to the error that names it.
    """
    node = config["model"]
    target = locate(node[TARGET], config["plugins"])
    missing = _missing_arguments(arguments(target), {**node, **filled}, spec)
    option = option_of("model", node) or target.__name__
    problem = ""
    if missing:
        problem = _needed_data(missing, option)
    elif under(target.__module__, PACKAGES) and _reads_tokens_as_numbers(arguments(target), spec):
        problem = "reads numbers, not texts"
    if problem:
        what_fits = _listed(fitting_models(config, spec), kind_of(spec))
        raise ConfigError([(f"model={option}", f"{problem}{what_fits}")])


def _needed_data(missing: list[str], model: str) -> str:
    """Return which data has the arguments that a model misses; "" if no data has one of them."""
    if not set(missing) <= NEEDED_DATA.keys():
        return ""
    needed = next(NEEDED_DATA[name] for name in NEEDED_DATA if name in missing)
    return f"needs {needed}{_example_of_data(model)}"


def _listed(models: list[str], kind: DataKind) -> str:
    """Return the first of the models that fit a kind of data, for a message; "" without any."""
    if not models:
        return ""
    text = f"; for {kind.name}: {first_names(models, MAX_MODELS_SHOWN)}"
    return f"{text} (dltrain list model)" if len(models) > MAX_MODELS_SHOWN else text


def fitting_models(config: dict[str, Any], spec: Spec) -> list[str]:
    """Return the options of model that can read the data and are for its task.

    The first one is that which the data set chooses itself; then come models of just this kind of
    data.
    """
    dataset = option_of("dataset", config["dataset"])
    chosen: dict[str, Choice] = {}
    if dataset:
        chosen["dataset"] = dataset
    choices = compose_files(chosen)[1]
    special = kind_of(spec).argument

    def rank(option: str) -> tuple[bool, bool, str]:
        is_required = special in _required(_model_arguments(option, config["plugins"]))
        return option != choices["model"], not is_required, option

    readers = [name for name in groups()["model"] if _can_read(name, config["plugins"], spec)]
    fitting = [name for name in readers if _is_for_task(name, chosen, choices["task"])]
    return sorted(fitting, key=rank)


def option_of(group: str, node: Mapping[str, Any]) -> str:
    """Return the option of a group whose file is most like a node of its target; "" without one."""
    files = {option: read_option(group, option) for option in groups()[group]}
    same_target = [option for option in files if files[option].get(TARGET) == node[TARGET]]

    def likeness(option: str) -> float:
        file = files[option]
        return sum(node.get(key) == value for key, value in file.items()) / len(file)

    return max(same_target, key=likeness, default="")


def _is_for_task(model: str, chosen: dict[str, Choice], task: Choice) -> bool:
    """Return whether the choices keep their task with an option of model.

    That is also false for a model with a task of its own that the choices override.
    """
    with_model = compose_files({**chosen, "model": model})[1]["task"]
    alone = compose_files({"model": model})[1]["task"]
    usual = compose_files({})[1]["task"]  # that of a model whose file chooses none
    return with_model == task and alone in (task, usual)


def _example_of_data(model: str) -> str:
    """Return the data set that chooses a model, or else its task, for a message; "" for none."""
    task = compose_files({"model": model} if model in groups()["model"] else {})[1]["task"]
    if task == compose_files({})[1]["task"]:
        return ""
    choices = {name: compose_files({"dataset": name})[1] for name in groups()["dataset"]}
    suited = [name for name in choices if choices[name]["task"] == task]
    suited.sort(key=lambda name: choices[name]["model"] != model)
    return f", such as dataset={suited[0]}" if suited else ""


def _model_arguments(option: str, plugins: list[str]) -> Mapping[str, Argument]:
    """Return the arguments of an option's class; none where a plugin is not named."""
    try:
        return arguments(locate(read_option("model", option)[TARGET], plugins))
    except (KeyError, UsageError):
        return {}


def _required(accepted: Mapping[str, Argument]) -> list[str]:
    """Return the names of the arguments without a default."""
    return [name for name, argument in accepted.items() if argument.required]


def _missing_arguments(
    accepted: Mapping[str, Argument], node: Mapping[str, Any], spec: Spec
) -> list[str]:
    """Return the required arguments that neither the node nor the data has."""
    known = {*node, *spec.arguments()}
    return [name for name in _required(accepted) if name not in known]


def _reads_tokens_as_numbers(accepted: Mapping[str, Argument], spec: Spec) -> bool:
    """Return whether a model would calculate with the numbers of tokens."""
    return bool(spec.vocab_size) and "vocab_size" not in accepted


def _can_read(option: str, plugins: list[str], spec: Spec) -> bool:
    """Return whether a model can read the data, as far as its arguments tell."""
    accepted = _model_arguments(option, plugins)
    if not accepted or _missing_arguments(accepted, read_option("model", option), spec):
        return False
    codes = {
        "vocab_size": spec.vocab_size,
        "target_vocab_size": spec.target_vocab_size,
        "num_states": spec.num_states,
        "cardinalities": spec.cardinalities,
    }
    return all(name in accepted for name, value in codes.items() if value)
