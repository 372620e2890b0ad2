"""Checks the nodes of a configuration against the signatures of their targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dltrain.config.checking.annotations import (
    admits_plain,
    describe,
    fits,
    is_callable,
    is_mapping_of_objects,
    wants_object,
)
from dltrain.config.checking.problems import Problems
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments, type_problem
from dltrain.config.suggestions.quoting import typed_as_list, typed_as_text
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.shell import quoted, shell_word

TARGET = "_target_"
PARTIAL = "_partial_"
OPTIMIZERS = "optimizers"  # of a task: settings of single networks, which override the shared ones
AS_NUMBER = "a number: KEY='${oc.decode:${oc.env:NAME}}'"
NO_TENSORS = (
    "a configuration cannot hold tensors: loss=cross_entropy takes "
    '"loss.class_weights=[NUMBER, ...]", one for each class'
)
TENSORS = {"loss.weight": NO_TENSORS, "loss.pos_weight": NO_TENSORS}  # of the losses of torch


def plugins_of(config: Mapping[str, Any]) -> list[str]:
    """Return the packages whose classes may be built; none if the key does not hold a list."""
    plugins = config.get("plugins")
    if isinstance(plugins, list):
        return [str(plugin) for plugin in plugins]
    return []


def own_optimizer(config: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return the node of one network's optimizer.

    Its settings override the shared ones; a node with a `_target_` replaces the shared optimizer.
    """
    own: dict[str, Any] = config["task"][OPTIMIZERS][network]
    if TARGET in own:
        return own
    return {**config["optimizer"], **own}


class NodeChecker:
    """Checks nodes, and reports what is wrong with them."""

    def __init__(self, problems: Problems, plugins: list[str]) -> None:
        self.problems = problems
        self.plugins = plugins
        self.typed = problems.composed.typed

    def check_targets(self, value: Any, path: str = "") -> None:
        """Check that every target may be built, even if nothing builds it."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.check_targets(item, f"{path}[{index}]")
        if not isinstance(value, dict):
            return
        for name, item in value.items():
            self.check_targets(item, f"{path}.{name}".lstrip("."))
        if TARGET not in value:
            return
        try:
            locate(str(value[TARGET]), self.plugins)
        except UsageError as e:
            self.problems.report(f"{path}.{TARGET}".lstrip("."), value[TARGET], str(e))

    def check(self, node: Any, path: str, is_called: bool = False) -> None:
        """Check one node against its target's signature.

        `is_called`: what is built is a function that is called later, so `_partial_` may be true.
        """
        if not isinstance(node, dict) or TARGET not in node:
            why = f"expected a choice with a {TARGET} (dltrain list {path.split('.')[0]})"
            self.problems.report(path, node, TENSORS.get(path, why))
            return
        accepted = self.arguments_of(node, path)
        if accepted is None or self.reports_stale_keys(node, path, accepted):
            return
        if PARTIAL in node:
            self.check_partial(f"{path}.{PARTIAL}", node[PARTIAL], is_called)
        for name, value in node.items():
            if name in (TARGET, PARTIAL):
                continue
            key = f"{path}.{name}"
            if name in accepted:
                self.check_argument(key, value, accepted[name].annotation)
            else:
                self.problems.report(
                    key, value, self.unknown_key_problem(node, path, name, accepted)
                )

    def arguments_of(self, node: dict[str, Any], path: str) -> Mapping[str, Argument] | None:
        """Return the arguments of a node's target; None where there are none, which is reported."""
        try:
            target = locate(str(node[TARGET]), self.plugins)
        except UsageError:  # reported by `check_targets`
            return None
        try:
            return arguments(target)
        except UsageError as e:
            self.problems.report(f"{path}.{TARGET}", node[TARGET], str(e))
            return None

    def reports_stale_keys(
        self, node: dict[str, Any], path: str, accepted: Mapping[str, Argument]
    ) -> bool:
        """Report a class that was typed alone and does not take the other keys of its node.

        Returns whether it was reported.
        """
        if f"{path}.{TARGET}" not in self.typed:
            return False
        of_earlier_choice = [name for name in node if f"{path}.{name}" not in self.typed]
        unknown = [n for n in of_earlier_choice if n not in (TARGET, PARTIAL, *accepted)]
        if not unknown:
            return False
        names = ", ".join(unknown)
        whole = shell_word(f"{path}={{{TARGET}: {node[TARGET]}}}")
        why = f"takes no {names}, set for the earlier choice; to replace the whole node: {whole}"
        self.problems.report(f"{path}.{TARGET}", node[TARGET], why)
        return True

    def check_partial(self, key: str, value: Any, is_called: bool) -> None:
        if value is False or (is_called and value is True):
            return
        why = "this is built at once: leave it out"
        if is_called:
            why = "expected true or false"
        self.problems.report(key, value, why)

    def check_argument(self, key: str, value: Any, annotation: Any) -> None:
        if is_mapping_of_objects(annotation) and isinstance(value, dict):
            for name, child in value.items():
                self.check(child, f"{key}.{name}", is_called=True)
        elif _is_node(value, annotation):
            self.check(value, key, is_callable(annotation))
        else:
            self.check_value(key, value, annotation)

    def unknown_key_problem(
        self, node: dict[str, Any], path: str, name: str, accepted: Mapping[str, Argument]
    ) -> str:
        """Return why a target does not take the key `name`, and what to type instead."""
        problem = f"{node[TARGET].rpartition('.')[2]} takes no {name}"
        close = close_matches(name, accepted)
        if close:
            return f"{problem}; did you mean {path}.{close[0]}?"
        if f"{path}.{name}" in self.typed:
            return problem
        return f"{problem}; remove it with {shell_word(f'~{path}.{name}')}"

    def check_value(self, key: str, value: Any, annotation: Any) -> None:
        """Check a plain value against the annotation of its argument."""
        why = type_problem(value, annotation)
        if why is None:
            return
        if self.problems.is_secret(key):
            expected = describe(annotation)
            why = f"expected {expected}, which the text in the environment is not ({AS_NUMBER})"
        elif key in self.typed:
            why += _as_typed(self.typed[key], value, annotation)
        self.problems.report(key, value, why)

    def check_dataclass(self, cls: type, node: Mapping[str, Any], prefix: str = "") -> None:
        """Check a mapping against the fields of a dataclass, and of the dataclasses in it."""
        accepted = arguments(cls)
        for name, value in node.items():
            key = f"{prefix}{name}"
            annotation: Any = None
            if name in accepted:
                annotation = accepted[name].annotation
            if annotation is None:
                self.problems.report(key, value, "no such key")
            elif not dataclasses.is_dataclass(annotation):
                self.check_value(key, value, annotation)
            elif isinstance(value, dict):
                self.check_dataclass(annotation, value, f"{key}.")  # type: ignore[arg-type]
            else:
                fields = ", ".join(field.name for field in dataclasses.fields(annotation))
                self.problems.report(key, value, f"expected a mapping of {fields}")


def _is_node(value: Any, annotation: Any) -> bool:
    """Return True if `value` has to be a node: its annotation asks for an object, or admits one."""
    if wants_object(annotation):
        return not admits_plain(value, annotation)
    return isinstance(value, dict) and TARGET in value and type_problem(value, annotation) is None


def _as_typed(override: str, value: Any, annotation: Any) -> str:
    """Return what to type if the override was probably meant as another value.

    That is a list, or a text that Hydra reads as something else; "" for other values.
    """
    if value is None:
        return ""
    typed = override.partition("=")[2].strip()
    if not isinstance(value, str) and fits(typed, annotation):
        return f"; text is quoted: {typed_as_text(override)}"
    if isinstance(value, list):
        return _texts_in_list(override, value, annotation)
    if isinstance(value, dict):
        return _texts_in_mapping(value, annotation)
    if fits([value], annotation):
        as_list = override.replace("=", "=[", 1) + "]"
        return f"; did you mean {shell_word(as_list)}?"
    return ""


def _texts_in_list(override: str, values: list[Any], annotation: Any) -> str:
    as_texts = [str(item) for item in values]
    if not fits(as_texts, annotation):
        return ""
    return f"; texts are quoted: {typed_as_list(override)}"


def _texts_in_mapping(mapping: dict[str, Any], annotation: Any) -> str:
    as_texts = {key: str(item) for key, item in mapping.items()}
    if not fits(as_texts, annotation):
        return ""
    pairs = [f"{key}: {quoted(text)}" for key, text in as_texts.items()]
    return f"; texts are quoted: {{{', '.join(pairs)}}}"
