"""Checks that concern several keys: the kinds of classes, and which choices go together."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from dltrain.config.checking.declared import Declared, declared
from dltrain.config.checking.nodes import TARGET, plugins_of
from dltrain.config.checking.problems import Problems
from dltrain.config.compose import Composed
from dltrain.config.groups import COMPOSING
from dltrain.config.policy import PACKAGES, locate, under
from dltrain.config.schema import arguments
from dltrain.shell import setting

# The packages that define what a group chooses from, unless it is the user's own.
PACKAGES_OF = {
    "dataset": ("dltrain.data",),
    "model": ("dltrain.models", "torch.nn", "torchvision"),
    "loss": ("dltrain.losses", "torch.nn"),
    "task": ("dltrain.tasks",),
    "optimizer": ("dltrain.optimizers", "torch.optim"),
    "schedule": ("dltrain.schedules",),
    "initialization": ("dltrain.initialization",),
    "launcher": ("dltrain.sweeps.launchers",),
    "sweep": ("dltrain.sweeps.samplers",),
    "regularization": ("dltrain.regularization",),
    "preprocessing": ("dltrain.preprocessing",),
    "callbacks": ("dltrain.callbacks",),
    "trainer": ("dltrain.config.settings",),
    "device": ("dltrain.device",),
}
SEVERAL = (*COMPOSING, "callbacks")  # groups whose choices stand under names
# The argument through which a task uses a group.
USED_THROUGH = {
    "model": "model",
    "loss": "loss",
    "optimizer": "optim",
    "schedule": "optim",
    "regularization": "optim",
}

OFF_IN_OVERFIT = ("schedule", "regularization")  # groups that debug=overfit trains without


class Combinations:
    """Checks a configuration whose nodes are right, each for itself."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.composed = problems.composed
        self.config = problems.composed.config
        self.plugins = plugins_of(self.config)

    def check_kinds(self) -> None:
        """Check that classes are of the right kind; what a function makes cannot be known here."""
        from torch import nn

        from dltrain.engine import Callback, Task

        kinds: dict[str, type] = {"model": nn.Module, "loss": nn.Module, "task": Task}
        nodes = [(group, self.config[group], kind) for group, kind in kinds.items()]
        nodes += [(path, node, Callback) for path, node in self.nodes_of("callbacks")]
        for path, node, kind in nodes:
            target = self.target_of(node)
            if not inspect.isclass(target) or issubclass(target, kind):
                continue
            expected = f"{kind.__module__}.{kind.__name__}"
            why = f"expected a {expected}, which {target.__name__} is not"
            self.problems.report(f"{path}.{TARGET}", node[TARGET], why)
        if not self.problems:
            self.check_packages()

    def check_packages(self) -> None:
        """Check that a class of dltrain or torch is chosen in a group that it belongs to."""
        for group, packages in PACKAGES_OF.items():
            for path, node in self.nodes_of(group):
                module = str(self.target_of(node).__module__)
                if under(module, PACKAGES) and not under(module, packages):
                    why = f"not a choice of {group} (dltrain list {group})"
                    self.problems.report(f"{path}.{TARGET}", node[TARGET], why)

    def check_choices(self) -> None:
        """Check which choices go together."""
        self.check_end()
        for destination, regularizer in self.filled_arguments():
            self.check_filled(destination, regularizer)
        self.check_reduction()
        self.check_mixing()
        for key, text in self.config["expect"].items():
            if not _is_claim(text):
                why = 'expected a comparison with a number, such as ">=0.99"'
                self.problems.report(f"expect.{key}", text, why)

    def check_end(self) -> None:
        """Check that the run has an end, and an end that is known where a choice plans over it."""
        trainer = self.config["trainer"]
        if any(trainer[key] is not None for key in ("epochs", "steps", "stage_steps")):
            return
        planning = self.choices_that_plan()
        if trainer["max_seconds"] is None:
            why = "a run needs an end: set trainer.epochs, .steps or .max_seconds"
        elif planning:
            why = f"{planning[0]} needs to know the end: set trainer.epochs or .steps"
        else:
            return
        self.problems.report("trainer.epochs", None, why)

    def choices_that_plan(self) -> list[str]:
        """Return the choices that plan over the whole run; a relative warm-up does too."""
        nodes = {"this schedule": self.config["schedule"], **dict(self.nodes_of("regularization"))}
        return [
            name
            for name, node in nodes.items()
            if self.declared_by(node).needs_end or 0 < node.get("warmup", 0) < 1
        ]

    def check_filled(self, destination: str, regularizer: str) -> None:
        """Check that the argument that a regularizer fills exists."""
        group, _, name = destination.partition(".")
        if name in arguments(self.target_of(self.config[group])):
            return
        option = self.composed.choices.get(group, group)
        chosen_in = next(g for g in COMPOSING if regularizer in self.config[g])
        what = self.composed.typed.get(chosen_in, setting(chosen_in, [regularizer]))
        why = f"{regularizer} needs a {destination}; {group}={option} has none"
        self.problems.add(what, why)

    def filled_arguments(self) -> list[tuple[str, str]]:
        """Return (GROUP.ARGUMENT, name) for each argument that a regularizer or transform fills."""
        filled = []
        for name, node in self.config["regularization"].items():
            settings = {key: value for key, value in node.items() if key != TARGET}
            regularizer = self.target_of(node)(**settings)
            for destination in regularizer.settings():
                if destination.split(".")[0] in ("model", "loss", "dataset"):
                    filled.append((destination, name))
        filled += [("dataset.transforms", name) for name in self.config["preprocessing"]]
        return filled

    def check_reduction(self) -> None:
        """Check that a loss of torch is the mean over a batch."""
        loss = self.target_of(self.config["loss"])
        reduction = self.config["loss"].get("reduction", "mean")
        if not under(loss.__module__, ["torch"]) or reduction == "mean":
            return
        why = (
            "the loss has to be the mean over a batch: training and evaluation average it over "
            "batches; leave it out"
        )
        self.problems.report("loss.reduction", reduction, why)

    def check_mixing(self) -> None:
        """Check that loss and task can train on mixed samples, if a choice mixes them."""
        mixing = self.choices_that_mix()
        if not mixing:
            return
        if not self.declared_by(self.config["loss"]).soft_targets:
            why = (
                f"{mixing[0]} turns targets into class probabilities, which this loss cannot "
                "take; loss=cross_entropy can"
            )
            self.problems.report("loss", self.name_of("loss"), why)
        if not self.declared_by(self.config["task"]).mixes:
            why = f"{mixing[0]} mixes images, and this task would learn to make mixtures"
            self.problems.report("task", self.name_of("task"), why)
        labels = self.config["task"].get("labels")
        if labels is not None:
            why = f"counts the labels of single samples, and {mixing[0]} mixes them"
            self.problems.report("task.labels", labels, why)

    def choices_that_mix(self) -> list[str]:
        """Return the choices that mix samples, and their targets with them."""
        mixing = []
        for group in COMPOSING:
            for name, node in self.config[group].items():
                if self.declared_by(node).mixes_targets:
                    mixing.append(f"{group}={name}")
        return mixing

    def nodes_of(self, group: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (dotted key, node) of what is chosen in a group."""
        node = self.config.get(group)
        if node is None:  # the groups of a sweep, in the configuration of a run
            return
        if group not in SEVERAL:
            yield group, node
            return
        for name, child in node.items():
            if child:
                yield f"{group}.{name}", child

    def target_of(self, node: dict[str, Any]) -> Any:
        return locate(node[TARGET], self.plugins)

    def declared_by(self, node: dict[str, Any]) -> Declared:
        return declared(self.target_of(node))

    def name_of(self, group: str) -> str:
        """Return the chosen option of a group, or the class where it is the user's own."""
        target = self.target_of(self.config[group])
        return str(self.composed.choices.get(group, target.__name__))


def unread(composed: Composed) -> list[str]:
    """Return lines about typed keys of a checked configuration that nothing in this run reads."""
    combinations = Combinations(Problems(composed))
    typed = composed.typed
    lines = []
    for rule in (_not_used_by_task, _not_the_last_word, _off_in_overfit, _filled_by_others):
        for key, why in rule(combinations):
            if key in typed:
                lines.append(f"{typed[key]} is not read: {why}")
    return lines


def _not_used_by_task(combinations: Combinations) -> Iterator[tuple[str, str]]:
    """Yield keys of groups that the task does not use."""
    task = combinations.config["task"]
    task_name = combinations.composed.choices.get("task")
    task_arguments = set(arguments(combinations.target_of(task)))
    used = task_arguments - task.keys()  # task.loss={...} is a loss of the task's own
    for key in combinations.composed.typed:
        argument = USED_THROUGH.get(key.split(".")[0])
        if argument and argument not in used:
            yield key, f"task={task_name} does not use {argument}"


def _not_the_last_word(combinations: Combinations) -> Iterator[tuple[str, str]]:
    """Yield dataset.epochs, which is only the default of trainer.epochs."""
    if "trainer.epochs" in combinations.composed.typed:
        yield "dataset.epochs", "trainer.epochs is set"


def _off_in_overfit(combinations: Combinations) -> Iterator[tuple[str, str]]:
    """Yield keys of groups that debug=overfit trains without."""
    if combinations.config["debug"] != "overfit":
        return
    for key in combinations.composed.typed:
        if under(key, OFF_IN_OVERFIT):
            yield key, "debug=overfit trains without"


def _filled_by_others(combinations: Combinations) -> Iterator[tuple[str, str]]:
    """Yield arguments that a regularizer sets."""
    for destination, name in combinations.filled_arguments():
        if destination != "dataset.transforms":
            yield destination, f"regularization={name} sets {destination}"


def _is_claim(text: str) -> bool:
    """Return True for a comparison with a number, such as ">=0.99"."""
    try:
        float(text.lstrip("<>= "))
    except ValueError:
        return False
    return re.match(r"\s*[<>]=?\s*[^<>=]", text) is not None
