"""Holds a composed configuration against the signatures of what it builds, and reports every problem."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from dltrain.config.annotations import describe, is_mapping_of_objects, wants_object
from dltrain.config.compose import Composed
from dltrain.config.groups import COMPOSING, OVERLAYS, groups
from dltrain.config.overrides import Problem
from dltrain.config.policy import PACKAGES, locate, under
from dltrain.config.quoting import typed_as_list, typed_as_text
from dltrain.config.schema import MAX_VALUE_CHARS, Argument, arguments, wrong
from dltrain.config.settings import Settings
from dltrain.config.spelling import close_matches
from dltrain.errors import ConfigError, UsageError
from dltrain.shell import quoted, shell_word

TARGET, PARTIAL = "_target_", "_partial_"
FOLDERS = ("paths.data", "paths.output")
OPTIMIZERS = "optimizers"  # of a task: settings of single networks over the shared optimizer
CALLED_LATER = (
    "optimizer",
    "schedule",
)  # groups whose choice is called by the task, when there is a model
AS_NUMBER = "a number: KEY='${oc.decode:${oc.env:NAME}}'"
BY_CLASS = "a configuration holds no tensors: loss=cross_entropy takes loss.class_weights=[NUMBER, ...], one a class"
TENSORS = {
    "loss.weight": BY_CLASS,
    "loss.pos_weight": BY_CLASS,
}  # of torch's losses, as their users write them
PACKAGES_OF = {  # where what a group chooses from is defined, as far as it is not the user's
    "dataset": ("dltrain.data",),
    "model": ("dltrain.models", "torch.nn", "torchvision"),
    "loss": ("dltrain.losses", "torch.nn"),
    "task": ("dltrain.tasks",),
    "optimizer": ("dltrain.optimizers", "torch.optim"),
    "schedule": ("dltrain.schedules",),
    "initialization": ("dltrain.initialization",),
    "regularization": ("dltrain.regularization",),
    "preprocessing": ("dltrain.preprocessing",),
    "callbacks": ("dltrain.callbacks",),
    "trainer": ("dltrain.config.settings",),
    "device": ("dltrain.device",),
}


def problems_of(composed: Composed) -> list[Problem]:
    """Everything wrong with `composed`: what its composition set aside, then keys, types, ranges and combinations."""
    return [*composed.problems, *_Checker(composed).run()]


def raise_all(composed: Composed) -> None:
    """ConfigError with every problem, if there is one."""
    found = problems_of(composed)
    if found:
        raise ConfigError(found)


class _Checker:
    def __init__(self, composed: Composed) -> None:
        self.composed, self.config = composed, composed.config
        plugins = composed.config.get("plugins")
        self.plugins = [str(plugin) for plugin in plugins] if isinstance(plugins, list) else []
        self.problems: list[Problem] = []

    def run(self) -> list[Problem]:
        self.targets(self.config, "")
        own = {
            key: value
            for key, value in self.config.items()
            if key not in groups() or key == "debug"
        }
        self.dataclass_node(Settings, own, "")
        for group in (name for name in groups() if name not in OVERLAYS):
            node = self.config.get(group)
            if group not in (*COMPOSING, "callbacks"):
                self.node(
                    self.without_optimizers(node) if group == "task" else node,
                    group,
                    group in CALLED_LATER,
                )
            elif not isinstance(node, dict):
                self.report(group, node, f"expected a mapping of choices (dltrain list {group})")
            else:
                for name, child in node.items():
                    if child is not None:
                        self.node(child, f"{group}.{name}")
        self.empties()
        if not self.problems and not self.composed.unresolved:
            self.kinds()
        if not self.problems and not self.composed.unresolved:
            self.combinations()
        return self.problems

    def report(self, key: str, value: Any, why: str) -> None:
        """Name the override as it was typed, or the key and its value if a file set it."""
        if key not in self.composed.unresolved:
            shown = "(from the environment)" if self.is_secret(key) else _short(value)
            text = self.composed.typed.get(key, f"{key}={shown}")
            self.problems.append(
                (text if len(text) <= 3 * MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}...", why)
            )

    def is_secret(self, key: str) -> bool:
        return any(
            f"{one}.".startswith(f"{other}.")
            for s in self.composed.secret
            for one, other in ((s, key), (key, s))
        )

    def targets(self, value: Any, path: str) -> None:
        """Whether every target may be built, however deep it stands: also where nothing would ever build it."""
        if isinstance(value, list):
            for i, child in enumerate(value):
                self.targets(child, f"{path}[{i}]")
        if not isinstance(value, dict):
            return
        for name, child in value.items():
            self.targets(child, f"{path}.{name}".lstrip("."))
        if TARGET in value:
            try:
                locate(str(value[TARGET]), self.plugins)
            except UsageError as e:
                self.report(f"{path}.{TARGET}".lstrip("."), value[TARGET], str(e))

    def node(self, node: Any, path: str, later: bool = False) -> None:
        """One node against its target's signature; `later`: what it builds may be called later, by `_partial_`."""
        if not isinstance(node, dict) or TARGET not in node:
            why = f"expected a choice with a {TARGET} (dltrain list {path.split('.')[0]})"
            self.report(path, node, TENSORS.get(path, why))
            return
        try:
            target = locate(str(node[TARGET]), self.plugins)
        except UsageError:
            return  # reported among the targets
        try:
            taken = arguments(target)
        except UsageError as e:
            self.report(f"{path}.{TARGET}", node[TARGET], str(e))
            return
        if self.replaced_alone(node, path, taken):
            return
        for name, value in node.items():
            key = f"{path}.{name}"
            if name == TARGET:
                continue
            if name == PARTIAL:
                if value is not False and not (later and value is True):
                    self.report(
                        key,
                        value,
                        "expected true or false"
                        if later
                        else "this is built at once: leave it out",
                    )
            elif name not in taken:
                close = close_matches(name, taken)
                of_file = "" if key in self.composed.typed else f"; ~{key} takes it out"
                meant = f"; did you mean {path}.{close[0]}?" if close else of_file
                self.report(key, value, f"{node[TARGET].rpartition('.')[2]} takes no {name}{meant}")
            elif is_mapping_of_objects(taken[name].annotation) and isinstance(value, dict):
                for own, child in value.items():
                    self.node(child, f"{key}.{own}", later=True)
            elif _is_node(value, taken[name].annotation):
                self.node(value, key, later=_is_called(taken[name].annotation))
            else:
                self.value(key, value, taken[name].annotation)

    def replaced_alone(
        self, node: dict[str, Any], path: str, taken: Mapping[str, Argument]
    ) -> bool:
        """Report a class that was typed without the rest of its choice, if it does not take the
        keys that are there.
        """
        if f"{path}.{TARGET}" not in self.composed.typed:
            return False
        own = (TARGET, PARTIAL, *taken)
        left = [
            name for name in node if name not in own and f"{path}.{name}" not in self.composed.typed
        ]
        if left:
            whole = shell_word(f"{path}={{{TARGET}: {node[TARGET]}}}")
            why = f"takes no {', '.join(left)}, which the choice before it has; all of it is replaced by {whole}"
            self.report(f"{path}.{TARGET}", node[TARGET], why)
        return bool(left)

    def without_optimizers(self, task: Any) -> Any:
        """The task's node but for the optimizers of its networks, which are checked like the one that they refine."""
        own = task.get(OPTIMIZERS) if isinstance(task, dict) else None
        if own is None:
            return task
        try:
            networks = getattr(locate(str(task.get(TARGET)), self.plugins), "networks", ())
        except UsageError:
            networks = ()
        for network, node in own.items() if isinstance(own, dict) else [("", own)]:
            path = f"task.{OPTIMIZERS}.{network}".rstrip(".")
            if not isinstance(node, dict):
                self.report(path, node, "expected settings of an optimizer, such as {lr: 0.001}")
            elif network not in networks:
                self.report(
                    path,
                    node,
                    f"this task has no such network: {', '.join(networks) or 'it has one only'}",
                )
            elif isinstance(self.config.get("optimizer"), dict):
                whole = own_optimizer(self.config, network)
                self.node({TARGET: whole.get(TARGET), **node}, path, later=True)
        return {key: value for key, value in task.items() if key != OPTIMIZERS}

    def value(self, key: str, value: Any, annotation: Any) -> None:
        why = wrong(value, annotation)
        if why and self.is_secret(key):
            why = f"expected {describe(annotation)}, which the text in the environment is not ({AS_NUMBER})"
        elif why and key in self.composed.typed:
            why += _as_typed(self.composed.typed[key], value, annotation)
        if why:
            self.report(key, value, why)

    def empties(self) -> None:
        """Report keys without a value: nothing was typed after the =, or the folder would be the
        current one.
        """
        reported = {what for what, _ in self.problems}
        for key, typed in self.composed.typed.items():
            if typed.rstrip().endswith("=") and typed not in reported and key not in FOLDERS:
                self.report(key, "", "has no value; write null for no value, '' for an empty text")
        for key in FOLDERS:
            paths = self.config.get("paths")
            if isinstance(paths, dict) and paths.get(key.rpartition(".")[2]) == "":
                self.report(key, "", f"names no folder; {key}=. is the current one")

    def dataclass_node(self, cls: type, node: dict[str, Any], prefix: str) -> None:
        taken = arguments(cls)
        for name, value in node.items():
            key = f"{prefix}{name}"
            if name not in taken:
                self.report(key, value, "no such key")
            elif dataclasses.is_dataclass(taken[name].annotation):
                nested: Any = taken[name].annotation
                if isinstance(value, dict):
                    self.dataclass_node(nested, value, f"{key}.")
                else:
                    self.report(key, value, f"expected a mapping of {', '.join(arguments(nested))}")
            else:
                self.value(key, value, taken[name].annotation)

    def kinds(self) -> None:
        """What was located is of the right kind: a callback is a Callback. Functions make what cannot be known here."""
        from torch import nn

        from dltrain.engine import Callback, Task

        kinds: list[tuple[str, type]] = [("model", nn.Module), ("loss", nn.Module), ("task", Task)]
        nodes = [(group, kind, self.config[group]) for group, kind in kinds]
        nodes += [
            (f"callbacks.{name}", Callback, node)
            for name, node in self.config["callbacks"].items()
            if node
        ]
        for path, kind, node in nodes:
            target = locate(node[TARGET], self.plugins)
            if inspect.isclass(target) and not issubclass(target, kind):
                why = (
                    f"expected a {kind.__module__}.{kind.__name__}, which {target.__name__} is not"
                )
                self.report(f"{path}.{TARGET}", node[TARGET], why)
        if not self.problems:
            self.packages()

    def packages(self) -> None:
        """What dltrain or torch define is chosen where it belongs: a dataset is not one of the models."""
        for group, packages in PACKAGES_OF.items():
            node = self.config[group]
            several = {f"{group}.{name}": child for name, child in node.items() if child}
            for path, child in (
                several.items() if group in (*COMPOSING, "callbacks") else [(group, node)]
            ):
                module = str(locate(child[TARGET], self.plugins).__module__)
                if under(module, PACKAGES) and not under(module, packages):
                    why = f"not a choice of {group} (dltrain list {group})"
                    self.report(f"{path}.{TARGET}", child[TARGET], why)

    def combinations(self) -> None:
        """What single keys cannot show."""
        trainer = self.config["trainer"]
        if trainer["epochs"] is None and trainer["steps"] is None:
            if trainer["max_seconds"] is None:
                self.report(
                    "trainer.epochs",
                    None,
                    "a run needs an end: set trainer.epochs, .steps or .max_seconds",
                )
            elif planning := self.choices_that_need_the_end():
                why = f"{planning[0]} needs to know the end: set trainer.epochs or .steps"
                self.report("trainer.epochs", None, why)
        for destination, regularizer in self.argument_destinations():
            group, _, name = destination.partition(".")
            target = locate(self.config[group][TARGET], self.plugins)
            if name not in arguments(target):
                option = self.composed.choices.get(group, group)
                source = next(g for g in COMPOSING if regularizer in self.config[g])
                what = self.composed.typed.get(source, f"{source}=[{regularizer}]")
                self.problems.append(
                    (what, f"{regularizer} needs a {destination}; {group}={option} has none")
                )
        loss = locate(self.config["loss"][TARGET], self.plugins)
        self.loss_reduction(loss)
        mixers = self.mixers()
        if mixers and not getattr(loss, "soft_targets", True):
            why = f"{mixers[0]} mixes targets into shares of the classes; this loss takes none: loss=cross_entropy does"
            self.report("loss", self.composed.choices.get("loss", loss.__name__), why)
        task = locate(self.config["task"][TARGET], self.plugins)
        if mixers and not getattr(task, "mixes", True):
            self.report(
                "task",
                self.composed.choices.get("task", task.__name__),
                f"{mixers[0]} mixes images, and this task would learn to make mixtures",
            )
        for key, text in self.config["expect"].items():
            if not _is_claim(text):
                self.report(
                    f"expect.{key}", text, 'expected a comparison with a number, such as ">=0.99"'
                )

    def loss_reduction(self, loss: Any) -> None:
        """Report a loss of torch's that is not the mean over a batch."""
        reduction = self.config["loss"].get("reduction", "mean")
        if under(loss.__module__, ["torch"]) and reduction != "mean":
            why = "the loss has to be the mean over a batch: training and evaluation average it over batches"
            self.report("loss.reduction", reduction, f"{why}; leave it out")

    def choices_that_need_the_end(self) -> list[str]:
        """What plans over the whole run: a choice whose class says so, and a warm-up that is a share of the run."""
        nodes = {"this schedule": self.config["schedule"]}
        nodes |= {
            f"regularization.{name}": node for name, node in self.config["regularization"].items()
        }
        return [
            what
            for what, node in nodes.items()
            if getattr(locate(node[TARGET], self.plugins), "needs_end", False)
            or 0 < node.get("warmup", 0) < 1
        ]

    def mixers(self) -> list[str]:
        """The choices that mix samples, and their targets with them."""
        nodes = [
            (f"{group}={name}", node)
            for group in COMPOSING
            for name, node in self.config[group].items()
        ]
        return [
            what
            for what, node in nodes
            if getattr(locate(node[TARGET], self.plugins), "mixes_targets", False)
        ]

    def argument_destinations(self) -> list[tuple[str, str]]:
        found = []
        for name, node in self.config["regularization"].items():
            given = {key: value for key, value in node.items() if key != TARGET}
            settings = locate(node[TARGET], self.plugins)(**given).settings()
            found += [
                (d, name) for d in settings if d.split(".")[0] in ("model", "loss", "dataset")
            ]
        return [*found, *(("dataset.transforms", name) for name in self.config["preprocessing"])]


def own_optimizer(config: dict[str, Any], network: str) -> dict[str, Any]:
    """The settings of one network's optimizer: its own over the shared ones, or its own alone if it is another optimizer."""
    own: dict[str, Any] = config["task"][OPTIMIZERS][network]
    return own if TARGET in own else {**config["optimizer"], **own}


def _is_node(value: Any, annotation: Any) -> bool:
    """Whether `value` has to be a choice of its own: its annotation asks for an object, or admits one."""
    if wants_object(annotation):
        return value is not None or type(None) not in typing.get_args(annotation)
    return isinstance(value, dict) and TARGET in value and wrong(value, annotation) is None


def _is_called(annotation: Any) -> bool:
    """Whether what `annotation` asks for is only there to be called: a function, or None."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    return origin is Callable or any(map(_is_called, args))


def _as_typed(override: str, value: Any, annotation: Any) -> str:
    """Return what to type where a list, or text that reads as something else, was meant; nothing
    where it was not.
    """
    typed = override.partition("=")[2].strip()
    if value is None:
        return ""
    if not isinstance(value, str) and wrong(typed, annotation) is None:
        return f"; text is quoted: {typed_as_text(override)}"
    if isinstance(value, list) and wrong([str(item) for item in value], annotation) is None:
        return f"; texts are quoted: {typed_as_list(override)}"
    if (
        isinstance(value, dict)
        and wrong({key: str(item) for key, item in value.items()}, annotation) is None
    ):
        return f"; texts are quoted: {{{', '.join(f'{key}: {quoted(str(item))}' for key, item in value.items())}}}"
    if not isinstance(value, list | dict) and wrong([value], annotation) is None:
        return f"; did you mean {shell_word(override.replace('=', '=[', 1) + ']')}?"
    return ""


def _is_claim(text: str) -> bool:
    try:
        float(text.lstrip("<>= "))
    except ValueError:
        return False
    return re.match(r"\s*[<>]=?\s*[^<>=]", text) is not None


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."


USED_THROUGH = {
    "model": "model",
    "loss": "loss",
    "optimizer": "optim",
    "schedule": "optim",
    "regularization": "optim",
}


def unread(composed: Composed) -> list[str]:
    """Keys of a checked configuration that were typed and that nothing in this experiment reads, each with the reason."""
    checker = _Checker(composed)
    task = composed.config["task"]
    asked = (
        set(arguments(locate(task[TARGET], checker.plugins))) - task.keys()
    )  # task.loss=hinge is no choice of a loss
    lines = []
    for key, typed in composed.typed.items():
        argument = USED_THROUGH.get(key.split(".")[0])
        if argument and argument not in asked:
            lines.append(
                f"{typed} is not read: task={composed.choices.get('task')} does not use {argument}"
            )
    if {"dataset.epochs", "trainer.epochs"} <= composed.typed.keys():
        lines.append(f"{composed.typed['dataset.epochs']} is not read: trainer.epochs is set")
    for key, typed in composed.typed.items():
        if composed.config["debug"] == "overfit" and key.split(".")[0] in (
            "schedule",
            "regularization",
        ):
            lines.append(f"{typed} is not read: debug=overfit trains without")
    for destination, name in checker.argument_destinations():
        if destination in composed.typed and destination != "dataset.transforms":
            lines.append(
                f"{composed.typed[destination]} is not read: regularization={name} sets {destination}"
            )
    return lines
