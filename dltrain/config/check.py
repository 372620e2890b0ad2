"""Checks a composed configuration before anything is built, and reports every problem at once."""

from __future__ import annotations

from typing import Any

from dltrain.config.checking.combinations import SEVERAL, Combinations
from dltrain.config.checking.declared import declared
from dltrain.config.checking.nodes import OPTIMIZERS, TARGET, NodeChecker, own_optimizer, plugins_of
from dltrain.config.checking.problems import Problems
from dltrain.config.compose import Composed
from dltrain.config.composing.source_keys import has_listed
from dltrain.config.groups import COMMAND_GROUPS, OVERLAYS, groups
from dltrain.config.overrides import Problem
from dltrain.config.policy import locate
from dltrain.config.settings import Settings
from dltrain.errors import ConfigError, UsageError
from dltrain.shell import shell_word

FOLDERS = ("paths.data", "paths.output")
CALLED_LATER = ("optimizer", "schedule")  # groups whose choice the task calls when it has a model

NO_SETTINGS = "expected settings of an optimizer, such as {lr: 0.001}"


def problems_of(composed: Composed) -> list[Problem]:
    """Return everything that is wrong with `composed`.

    That is what its composition set aside, then keys, types and ranges, then combinations.
    """
    problems = Problems(composed)
    _check_keys(problems)
    if not problems and not composed.unresolved:
        combinations = Combinations(problems)
        combinations.check_kinds()
        if not problems:
            combinations.check_choices()
    return [*composed.problems, *problems.found]


def raise_all(composed: Composed) -> None:
    """Raise a ConfigError with every problem, if there is one."""
    problems = problems_of(composed)
    if problems:
        raise ConfigError(problems)


def _check_keys(problems: Problems) -> None:
    """Check every key by itself."""
    config = problems.composed.config
    checker = NodeChecker(problems, plugins_of(config))
    checker.check_targets(config)
    of_no_group = {
        key: value for key, value in config.items() if key not in groups() or key == "debug"
    }
    _check_resume(problems, of_no_group.pop("resume", None))
    checker.check_dataclass(Settings, of_no_group)
    for group in groups():
        is_absent = group in COMMAND_GROUPS and group not in config  # in that of a run
        if group not in OVERLAYS and not is_absent:
            _check_group(checker, group, config.get(group))
    _check_empty(problems)
    _check_folders(problems)


def _check_resume(problems: Problems, value: Any) -> None:
    """Report a value of `resume` other than auto: elsewhere it names the run to continue."""
    if value not in (None, "auto"):
        run = shell_word(value) if isinstance(value, str) else "RUN"
        why = f"expected auto or null; to continue a run type: dltrain resume {run}"
        problems.report("resume", value, why)


def _check_group(checker: NodeChecker, group: str, node: Any) -> None:
    if group not in SEVERAL:
        if group == "task":
            node = _without_optimizers(checker, node)
        checker.check(node, group, group in CALLED_LATER)
        return
    if not isinstance(node, dict):
        why = f"expected a mapping of choices (dltrain list {group})"
        checker.problems.report(group, node, why)
        return
    for name, child in node.items():
        if child is not None:
            checker.check(child, f"{group}.{name}")


def _without_optimizers(checker: NodeChecker, task: Any) -> Any:
    """Return the task's node without the optimizers of its networks.

    These are checked here, like the shared optimizer that they refine.
    """
    own: Any = None
    if isinstance(task, dict):
        own = task.get(OPTIMIZERS)
    if own is None:
        return task
    if isinstance(own, dict):
        networks = _networks_of(checker, task)
        for network, node in own.items():
            _check_optimizer(checker, networks, network, node)
    else:
        checker.problems.report(f"task.{OPTIMIZERS}", own, NO_SETTINGS)
    return {key: value for key, value in task.items() if key != OPTIMIZERS}


def _networks_of(checker: NodeChecker, task: dict[str, Any]) -> tuple[str, ...]:
    """Return the networks of a task; none if its target may not be built, which is reported."""
    try:
        target = locate(str(task.get(TARGET)), checker.plugins)
    except UsageError:
        return ()
    return declared(target).networks


def _check_optimizer(
    checker: NodeChecker, networks: tuple[str, ...], network: str, node: Any
) -> None:
    """Check the optimizer of one network of a task."""
    path = f"task.{OPTIMIZERS}.{network}"
    config = checker.problems.composed.config
    if not isinstance(node, dict):
        checker.problems.report(path, node, NO_SETTINGS)
    elif network not in networks:
        names = ", ".join(networks) or "it has one only"
        checker.problems.report(path, node, f"this task has no such network: {names}")
    elif isinstance(config.get("optimizer"), dict):
        whole = own_optimizer(config, network)
        checker.check({TARGET: whole.get(TARGET), **node}, path, is_called=True)


def _check_empty(problems: Problems) -> None:
    """Report keys for which nothing was typed after the =."""
    reported = {what for what, _ in problems.found}
    for key, typed in problems.composed.typed.items():
        is_empty = typed.rstrip().endswith("=")
        if is_empty and typed not in reported and key not in FOLDERS:
            why = "has no value; write null for no value, '' for an empty text"
            problems.report(key, "", why)


def _check_folders(problems: Problems) -> None:
    """Report folders without a name."""
    config = problems.composed.config
    for key in FOLDERS:
        group, _, name = key.partition(".")
        if has_listed(config)(key) and config[group][name] == "":
            problems.report(key, "", f"names no folder; {key}=. is the current one")
