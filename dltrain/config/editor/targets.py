"""JSON Schemas of the nodes of a configuration: one for each class that a file of conf/ names."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.config.checking.annotations import is_mapping_of_objects, wants_object
from dltrain.config.checking.declared import declared
from dltrain.config.checking.nodes import OPTIMIZERS, PARTIAL, TARGET
from dltrain.config.comments import comments
from dltrain.config.composing.source_keys import OWNER, SOURCE
from dltrain.config.editor.values import INTERPOLATION, PLAIN, JsonSchema, value_schema
from dltrain.config.groups import OVERLAYS, groups, option_file, read_option
from dltrain.config.policy import FUNCTION_PACKAGES, TARGET_PACKAGES, locate
from dltrain.config.schema import Argument, arguments, as_yaml
from dltrain.errors import UsageError
from dltrain.files import to_json

DEFAULTS = "defaults"
DESCRIPTION = "description"
OTHER_PACKAGES = "^(?!dltrain\\.)"  # classes of torch, torchvision and the user's own packages


@dataclass
class Target:
    """A class that files name: the groups that choose it, and the comments beside its keys.

    `is_source` is True for what a data set reads its samples through.
    """

    name: str
    groups: dict[str, None] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    is_source: bool = False

    @property
    def reference(self) -> JsonSchema:
        """The reference to its definition."""
        return {"$ref": f"#/definitions/{self.name}"}


def targets(plugins: Sequence[str] = ()) -> dict[str, Target]:
    """Return every class that the options of all groups name and that may be built, by name."""
    by_name: dict[str, Target] = {}
    for group, option, path, node in _nodes():
        name = str(node[TARGET])
        if not _may_be_built(name, plugins):
            continue
        target = by_name.setdefault(name, Target(name))
        target.groups[group] = None
        target.is_source |= [group, *path] == [OWNER, SOURCE]
        target.comments = _comments_of(group, option, path, node) | target.comments
    return by_name


def _comments_of(
    group: str, option: str, path: list[str], node: Mapping[str, Any]
) -> dict[str, str]:
    """Return the comment beside each key of a node, where it has one."""
    beside = comments(option_file(group, option))
    by_key = {key: beside.get(".".join([*path, key]), "") for key in node}
    return {key: comment for key, comment in by_key.items() if comment}


def _nodes() -> Iterator[tuple[str, str, list[str], Mapping[str, Any]]]:
    """Yield every node with a target: its group, option, the keys that lead to it, and itself."""
    for group, options in groups().items():
        if group in OVERLAYS:
            continue
        for option in options:
            for path, node in _nodes_in(read_option(group, option), []):
                yield group, option, path, node


def _nodes_in(value: Any, path: list[str]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    if not isinstance(value, dict):
        return
    if TARGET in value:
        yield path, value
    for key, child in value.items():
        yield from _nodes_in(child, [*path, key])


def _may_be_built(name: str, plugins: Sequence[str]) -> bool:
    try:
        locate(name, plugins)
    except UsageError:
        return False
    return True


@functools.cache
def buildable_names() -> list[str]:
    """Return the name of every class and function of dltrain that a configuration may name."""
    names = []
    for package in TARGET_PACKAGES:
        if package.startswith("dltrain."):
            names += [name for module in _modules(package) for name in _public_names(module)]
    return sorted(set(names))


def _modules(package: str) -> Iterator[Any]:
    """Yield a module, and those below it."""
    top = importlib.import_module(package)
    yield top
    for module in pkgutil.walk_packages(vars(top).get("__path__", []), f"{package}."):
        yield importlib.import_module(module.name)


def _public_names(module: Any) -> Iterator[str]:
    """Yield the full names of the classes of a module, and of functions where they may be built."""
    has_functions = module.__name__.startswith(FUNCTION_PACKAGES)
    for name, member in vars(module).items():
        is_own = inspect.getmodule(member) is module and not name.startswith("_")
        if is_own and (inspect.isclass(member) or (has_functions and inspect.isfunction(member))):
            yield f"{module.__name__}.{name}"


class NodeSchemas:
    """The schemas of the nodes of all classes that files name.

    `in_file` admits a defaults list in a node, for the files that hold one.
    """

    def __init__(self, plugins: Sequence[str], in_file: bool) -> None:
        self.plugins = plugins
        self.in_file = in_file
        self.targets = targets(plugins)
        self.properties = {name: self._own_keys(one) for name, one in self.targets.items()}
        self._add_optimizers()
        self._add_short_keys()

    def definitions(self) -> dict[str, JsonSchema]:
        """Return the definitions that the other schemas refer to."""
        schemas = {
            "interpolation": {"type": "string", "pattern": "\\$\\{"},
            "target": {"type": "string", "pattern": f"{OTHER_PACKAGES}|{_any_name()}"},
            "node": self.checked_by_target(list(self.targets.values()), {"type": "object"}),
        }
        for name, properties in self.properties.items():
            schemas[name] = {**closed(properties), DESCRIPTION: self._summary(name)}
        return schemas

    def checked_by_target(self, chosen: Sequence[Target], otherwise: JsonSchema) -> JsonSchema:
        """Return the schema of a node: that of its class, or `otherwise` if it names none."""
        rules: list[JsonSchema] = []
        for target in chosen:
            has_target = {"properties": {TARGET: {"const": target.name}}, "required": [TARGET]}
            rules.append({"if": has_target, "then": target.reference})
        names = {"type": "object", "properties": {TARGET: target_names(chosen)}}
        rules.append({"if": {"required": [TARGET]}, "then": names, "else": otherwise})
        return {"if": {"type": "object"}, "then": {"allOf": rules}, "else": INTERPOLATION}

    def settings_of(self, group: str) -> JsonSchema:
        """Return the schema of settings that refine an option of a group, whichever it is."""
        chosen = [one for one in self.targets.values() if group in one.groups and not one.is_source]
        keys = self._united_keys(chosen)
        return closed({TARGET: target_names(chosen), PARTIAL: PLAIN[bool], **keys})

    def _own_keys(self, target: Target) -> dict[str, JsonSchema]:
        """Return the schema of each key of a class."""
        built = locate(target.name, self.plugins)
        keys = {TARGET: {"const": target.name}, PARTIAL: PLAIN[bool]}
        keys |= argument_schemas(arguments(built), target)
        if self.in_file:
            keys[DEFAULTS] = {"type": "array"}
        return keys

    def _summary(self, name: str) -> str:
        docstring = inspect.cleandoc(locate(name, self.plugins).__doc__ or "")
        return docstring.partition("\n\n")[0].replace("\n", " ")

    def _add_optimizers(self) -> None:
        """Add the settings of single networks to the tasks that have several."""
        settings = self.settings_of("optimizer")
        for target in self.targets.values():
            networks = declared(locate(target.name, self.plugins)).networks
            if "task" in target.groups and networks:
                self.properties[target.name][OPTIMIZERS] = closed(dict.fromkeys(networks, settings))

    def _add_short_keys(self) -> None:
        """Add the keys of sources to data sets: dataset.path means dataset.source.path."""
        sources = [target for target in self.targets.values() if target.is_source]
        keys = self._united_keys(sources)
        for target in self.targets.values():
            own = self.properties[target.name]
            if OWNER in target.groups and SOURCE in own:
                self.properties[target.name] = keys | own

    def _united_keys(self, chosen: Sequence[Target]) -> dict[str, JsonSchema]:
        """Return the keys of several classes; a value fits if it fits in one of them."""
        by_key: dict[str, list[JsonSchema]] = {}
        for target in chosen:
            for key, schema in self.properties[target.name].items():
                by_key.setdefault(key, []).append(schema)
        for name in (TARGET, PARTIAL):
            by_key.pop(name, None)
        return {key: any_of(schemas) for key, schemas in by_key.items()}


def any_of(schemas: Sequence[JsonSchema]) -> JsonSchema:
    """Return the schema of a value that fits in one of several; equal ones count once."""
    distinct: dict[str, JsonSchema] = {}
    for schema in schemas:
        plain = {name: part for name, part in schema.items() if name != DESCRIPTION}
        distinct.setdefault(to_json(plain), schema)
    first, *others = distinct.values()
    if not others:
        return first
    return {"anyOf": [first, *others]}


def _any_name() -> str:
    """Return the pattern of all names that may be built; editors would print an enumeration."""
    return f"^({'|'.join(map(re.escape, buildable_names()))})$"


def closed(properties: Mapping[str, Any]) -> JsonSchema:
    """Return the schema of a mapping that has no other keys."""
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def argument_schemas(signature: Mapping[str, Argument], target: Target) -> dict[str, JsonSchema]:
    """Return the schema of each argument, with the comment beside it and its default."""
    schemas = {}
    for name, argument in signature.items():
        schema = _argument_schema(argument.annotation)
        text = _described(argument, target.comments.get(name, ""))
        if text and "$ref" not in schema:  # draft-07 ignores what stands beside a $ref
            schema = {**schema, DESCRIPTION: text}
        schemas[name] = schema
    return schemas


def _argument_schema(annotation: Any) -> JsonSchema:
    """Return the schema of an argument; objects under any names are nodes, or null to drop one."""
    schema = value_schema(annotation)
    if is_mapping_of_objects(annotation):
        return {"anyOf": [*schema.get("anyOf", [schema]), {"type": "object"}]}
    return schema


def _described(argument: Argument, comment: str) -> str:
    """Return the comment beside an argument's key, and its default."""
    words = [comment]
    if not argument.required and not wants_object(argument.annotation):
        words.append(f"default: {as_yaml(argument.default)}")
    return "; ".join(filter(None, words))


def target_names(chosen: Sequence[Target]) -> JsonSchema:
    """Return the schema of a `_target_`: the usual classes first, then all that may be built."""
    names = [target.name for target in chosen]
    return {"anyOf": [{"enum": names}, {"$ref": "#/definitions/target"}]}
