"""The JSON Schemas that `dltrain schema` writes: of configurations, and of each group's files.

They are draft-07, which the YAML language server reads.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.config.checking.combinations import SEVERAL
from dltrain.config.checking.nodes import TARGET
from dltrain.config.comments import comments
from dltrain.config.composing.defaults import SELF
from dltrain.config.editor.targets import DEFAULTS, DESCRIPTION, NodeSchemas, Target, closed
from dltrain.config.editor.values import NODE, JsonSchema, value_schema
from dltrain.config.groups import OVERLAYS, conf_dir, groups, read_option
from dltrain.config.schema import Argument, arguments
from dltrain.config.settings import Settings
from dltrain.files import to_json

DRAFT = "http://json-schema.org/draft-07/schema#"
REFERENCE = re.compile(r'"#/definitions/([^"]+)"')
WHOLE = "config"  # the document of config.yaml, of experiments and of what `dltrain config` prints


def documents() -> list[str]:
    """Return the names of the documents: that of whole configurations, and the groups."""
    return [WHOLE, *(group for group, options in groups().items() if options)]


def document(name: str, plugins: Sequence[str] = ()) -> JsonSchema:
    """Return the JSON Schema of the files of one kind. `name` is one of `documents()`."""
    is_whole = name in (WHOLE, *OVERLAYS)
    nodes = NodeSchemas(plugins, in_file=not is_whole)
    if is_whole:
        title = "dltrain configuration"
        body = _of_whole(nodes)
    else:
        title = f"dltrain {name}"
        body = _of_group(name, nodes)
    return {
        "$schema": DRAFT,
        "title": title,
        **body,
        "definitions": _referred_to(body, nodes.definitions()),
    }


def _referred_to(body: JsonSchema, definitions: dict[str, JsonSchema]) -> dict[str, JsonSchema]:
    """Return the definitions that a schema refers to, itself or through others."""
    needed: dict[str, JsonSchema] = {}
    waiting = [body]
    while waiting:
        for name in REFERENCE.findall(to_json(waiting.pop())):
            if name not in needed:
                needed[name] = definitions[name]
                waiting.append(needed[name])
    return needed


def _of_whole(nodes: NodeSchemas) -> JsonSchema:
    """Return the schema of a whole configuration, or of the part that an experiment sets."""
    beside = comments(conf_dir() / "config.yaml")
    properties = _settings(Settings, beside, "")
    for group in groups():
        if group not in OVERLAYS:
            properties[group] = _group_schema(group, nodes)
    properties[DEFAULTS] = _defaults_list()
    rules = [rule for group in groups() for rule in _chosen_rules(group, nodes)]
    return {**closed(properties), "allOf": rules}


def _settings(settings: Any, beside: Mapping[str, str], prefix: str) -> dict[str, JsonSchema]:
    """Return the schema of each field of a dataclass of settings."""
    properties = {}
    for name, argument in arguments(settings).items():
        key = f"{prefix}{name}"
        if dataclasses.is_dataclass(argument.annotation):
            properties[name] = closed(_settings(argument.annotation, beside, f"{key}."))
        else:
            properties[name] = _setting(key, argument, beside)
    return properties


def _setting(key: str, argument: Argument, beside: Mapping[str, str]) -> JsonSchema:
    """Return the schema of one setting, and of the keys below it that config.yaml has (init)."""
    schema = value_schema(argument.annotation)
    below = {k: words for k, words in beside.items() if k.startswith(f"{key}.")}
    if below:
        values = schema["anyOf"][0]["additionalProperties"]
        keys = {k.rpartition(".")[2]: described(values, words) for k, words in below.items()}
        return closed(keys)
    return described(schema, beside.get(key, ""))


def described(schema: JsonSchema, words: str) -> JsonSchema:
    """Return a schema with a description, if there is one."""
    if not words:
        return schema
    return {**schema, DESCRIPTION: words}


def _group_schema(group: str, nodes: NodeSchemas) -> JsonSchema:
    """Return the schema of a group's node: a class with its keys, or settings of any option."""
    if group in SEVERAL:
        return _named_nodes(group, nodes)
    return nodes.checked_by_target(_chosen_by(group, nodes), nodes.settings_of(group))


def _chosen_by(group: str, nodes: NodeSchemas) -> list[Target]:
    """Return the classes that a group's options name at their top, or under a name."""
    names: dict[str, None] = {}
    for option in groups()[group]:
        names |= dict.fromkeys(_top_targets(read_option(group, option)))
    return [nodes.targets[name] for name in names if name in nodes.targets]


def _top_targets(node: Mapping[str, Any]) -> list[str]:
    """Return the target of a node, or those of the nodes that it holds under names."""
    if TARGET in node:
        return [node[TARGET]]
    return [part[TARGET] for part in node.values() if isinstance(part, dict) and TARGET in part]


def _named_nodes(group: str, nodes: NodeSchemas) -> JsonSchema:
    """Return the schema of a mapping of names to nodes, as regularization has it."""
    properties: dict[str, JsonSchema] = {}
    for option in groups()[group]:
        for name, node in read_option(group, option).items():
            if isinstance(node, dict) and node.get(TARGET) in nodes.targets:
                refined = nodes.targets[node[TARGET]].reference
                named = nodes.checked_by_target(_chosen_by(group, nodes), refined)
                properties[name] = {"anyOf": [named, {"type": "null"}]}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": {"anyOf": [NODE, {"type": "null"}]},
    }


def _defaults_list() -> JsonSchema:
    """Return the schema of a defaults list: `_self_`, other files, and choices of groups."""
    offered = {}
    choices = {}
    for group, options in groups().items():
        several = {"type": "array", "items": {"enum": options}}
        chosen = {"anyOf": [{"enum": options}, {"type": "null"}, several]}
        offered[f"override /{group}"] = chosen
        choices[rf"^((override|optional) )*/?{group}(@[\w.-]+)?$"] = chosen
    choice = {
        "type": "object",
        "properties": offered,
        "patternProperties": choices,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    names = {"type": "string", "description": f"{SELF}, or the name of a file of this folder"}
    return {"type": "array", "items": {"anyOf": [choice, names]}}


def _chosen_rules(group: str, nodes: NodeSchemas) -> list[JsonSchema]:
    """Return the rules by which a choice of the defaults list decides which keys a group has."""
    rules: list[JsonSchema] = []
    if group in (*OVERLAYS, *SEVERAL):
        return rules
    for option in groups()[group]:
        target = nodes.targets.get(str(read_option(group, option).get(TARGET)))
        if target is None:
            continue
        key = f"override /{group}"
        chosen = {"type": "object", "properties": {key: {"const": option}}, "required": [key]}
        is_chosen = {"properties": {DEFAULTS: {"contains": chosen}}, "required": [DEFAULTS]}
        refined = {"if": {"required": [TARGET]}, "else": target.reference}
        rules.append({"if": is_chosen, "then": {"properties": {group: refined}}})
    return rules


def _of_group(group: str, nodes: NodeSchemas) -> JsonSchema:
    """Return the schema of the files of a group."""
    schema = _group_schema(group, nodes)
    if group in SEVERAL:
        properties = {**schema["properties"], DEFAULTS: _own_defaults()}
        return {**schema, "properties": properties}
    return schema


def _own_defaults() -> JsonSchema:
    return {"type": "array"}
