"""From overrides to a configuration: composed by Hydra, with every problem at once."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dltrain.config.choose import GLOBAL, choose
from dltrain.config.groups import COMPOSING, OVERLAYS, groups, option_file
from dltrain.config.interpolation import Way, dotted, environment, interpolations
from dltrain.config.read import DEEPEST, LONGEST_NUMBER
from dltrain.config.schema import close_matches, is_mapping_of_objects
from dltrain.config.suggest import arguments_of, common_keys, unknown_key
from dltrain.errors import ConfigError, InputError, first_line

LONGEST = 10_000  # characters of an override

Problem = tuple[str, str]


@dataclass
class Composed:
    """A configuration as plain data, with what the command line had to do with it.

    `public` is what may be written into files: `config`, but a value that comes from the environment, such as a password
    by ${oc.env:NAME}, stands there as it was typed. Read again it is looked up again.
    """

    config: dict[str, Any]
    choices: dict[str, Any]
    typed: dict[str, str] = field(default_factory=dict)  # dotted key: the override as it was typed
    problems: list[Problem] = field(default_factory=list)
    unresolved: set[str] = field(default_factory=set)  # dotted keys whose interpolation failed: reported already
    secret: set[str] = field(default_factory=set)  # dotted keys whose value comes from the environment
    public: dict[str, Any] = field(default_factory=dict)


def parse(overrides: list[str], sweep: bool = False) -> tuple[list[Any], list[Problem]]:
    """Hydra's override objects, and the texts that are not overrides with what would be."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        if why := _not_looked_at(text):
            problems.append((text if text.isprintable() and len(text) < 100 else f"{text[:60]!r}...", why))
            continue
        if "=" not in text and not text.startswith("~"):
            problems.append((text, f"is not an override: settings are KEY=VALUE{_as_setting(text)}"))
            continue
        try:
            override = _parse_override(parser, text)
        except HydraException as e:
            problems.append((text, f"cannot be read as KEY=VALUE: {first_line(e)}"))
            continue
        key = override.key_or_group
        if key.replace("/", ".").partition(".")[0] == "hydra":
            problems.append((text, "hydra.* is not to be set: a run's folder is paths.output and name, a sweep is -m"))
        elif override.package is not None:
            problems.append((text, f"a choice has one place: {key}=NAME, without @{override.package}"))
        elif override.is_sweep_override() and not sweep:
            at_once = f"; all at once: {key}=[{text.partition('=')[2]}]" if key in COMPOSING else ""
            problems.append((text, f"several values are a sweep: dltrain -m {text}{at_once}"))
        else:
            parsed.append(override)
    return parsed, problems


def _not_looked_at(text: str) -> str | None:
    """Why a text is refused before Hydra's parser, which is recursive and slow, sees it."""
    if len(text) > LONGEST:
        return f"cannot be read as KEY=VALUE: longer than {LONGEST:,} characters"
    if not text.isprintable():
        return "cannot be read as KEY=VALUE: it holds a line break or another control character"
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in ")}]")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        return f"cannot be read as KEY=VALUE: nested more than {DEEPEST} deep"
    if re.search(rf"[\d_]{{{LONGEST_NUMBER},}}", text):
        return f"cannot be read as KEY=VALUE: a number of more than {LONGEST_NUMBER} digits"
    return None


def _parse_override(parser: Any, text: str) -> Any:
    """Hydra's grammar, and beyond it plain text with characters that it does not know, as in paths.output=~/runs."""
    from hydra.errors import HydraException

    try:
        return parser.parse_override(text)
    except HydraException:
        key, _, value = text.partition("=")
        if not value or set(value) & set("[]{}(),'\"$\\"):
            raise
        override = parser.parse_override(f"{key}='{value}'")
        override.input_line = text
        return override


def _as_setting(word: str) -> str:
    if word in common_keys():
        return f"; did you mean {word}=...?"
    close = close_matches(word, [key.split(".")[-1] for key in common_keys()])
    full = [key for key in common_keys() if close and key.split(".")[-1] == close[0]]
    return f"; did you mean {full[0]}=...?" if full else ""


def compose(overrides: list[str]) -> Composed:
    """Compose `overrides` over conf/; what is wrong with them is set aside in `problems`, and the rest composed."""
    parsed, problems = parse(overrides)
    chosen: list[Any] = []
    values: list[Any] = []
    for override in parsed:
        (chosen if override.key_or_group in groups() and not _is_value(override) else values).append(override)
    good: list[Any] = []
    for override in chosen:
        wrong = _unknown_options(override)
        problems += wrong
        if not wrong and override.value() is None:  # an overlay that is taken back
            good = [o for o in good if o.key_or_group != override.key_or_group]
        elif not wrong:
            good.append(override)
    config, choices = choose(good)
    lists = {o.key_or_group: o.value() for o in good if isinstance(o.value(), list)}
    choices |= {group: names[0] for group, names in lists.items() if group not in COMPOSING}  # model=[mlp]
    composed = Composed(config, choices, {o.key_or_group: o.input_line for o in good}, problems)
    _check_files(composed, config, [override.key_or_group for override in values])
    return _set_values(composed, config, values)


def _check_files(composed: Composed, config: Any, typed: list[str]) -> None:
    """Take out what a file of the user's may not do, or cannot have meant."""
    from omegaconf import DictConfig, OmegaConf, open_dict

    for overlay in OVERLAYS:
        if isinstance(config.get(overlay), DictConfig):
            choice = composed.choices[overlay]
            composed.problems.append((f"{overlay}={choice}", f"{option_file(overlay, choice)}: {GLOBAL}"))
            with open_dict(config):
                del config[overlay]
    plugins: Any = OmegaConf.to_container(config)["plugins"]  # type: ignore[call-overload, index]
    if plugins and "plugins" not in typed:  # a file that somebody shares is not code
        named = f"plugins=[{','.join(map(str, plugins))}]" if isinstance(plugins, list) else f"plugins={plugins}"
        composed.problems.append((named, f"a file cannot name plugins: type {named} yourself"))
        config.plugins = []


def compose_over(saved: dict[str, Any], overrides: list[str]) -> Composed:
    """`overrides` over a saved configuration: a group override replaces the group's node by the option's own.

    InputError if the saved one holds what no configuration can.
    """
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    parsed, problems = parse(overrides)
    try:
        config: Any = OmegaConf.create(saved)
    except (OmegaConfBaseException, RecursionError) as e:
        raise InputError(f"a run's configuration cannot be read: {first_line(e)}") from e
    OmegaConf.set_struct(config, True)
    composed = Composed({}, {}, {}, problems)
    values = []
    for override in parsed:
        group = override.key_or_group
        if group not in groups() or _is_value(override):
            values.append(override)
        elif group in OVERLAYS:
            composed.problems.append((override.input_line, f"a run keeps its {group}; start a new one for another"))
        elif wrong := _unknown_options(override):
            composed.problems += wrong
        else:
            with open_dict(config):
                config[group] = choose([override])[0][group]
            composed.typed[group] = override.input_line
    return _set_values(composed, config, values)


def _set_values(composed: Composed, config: Any, values: list[Any]) -> Composed:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in values:
        try:
            problem = _apply(config, override)
        except (OmegaConfBaseException, TypeError, KeyError) as e:
            problem = first_line(e)
        if problem:
            composed.problems.append((override.input_line, problem))
        else:
            composed.typed[override.key_or_group] = override.input_line
    as_typed = _resolve(composed, config)
    plain: Any = OmegaConf.to_container(config)
    public = copy.deepcopy(plain)
    for path, text in as_typed.items():
        node = public
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = text
    composed.config, composed.public = _complete(plain), _complete(public)
    return composed


def _is_value(override: Any) -> bool:
    return isinstance(override.value(), dict)


def _unknown_options(override: Any) -> list[Problem]:
    group, value = override.key_or_group, override.value()
    if value is None and group in OVERLAYS:
        return []
    if value is None:
        none = f"{group}=quiet" if group == "callbacks" else f"{group}=[]" if group in COMPOSING else ""
        instead = f"for none: {none}" if none else f"every run has one: {group}=NAME (dltrain list {group})"
        return [(override.input_line, instead)]
    names = value if isinstance(value, list) else [value]
    if len(names) != 1 and group not in COMPOSING:
        return [(override.input_line, f"{group} is one choice; several values are a sweep: dltrain -m {group}=a,b")]
    problems = []
    for name in map(str, names):
        if name not in groups()[group]:
            what = override.input_line if len(names) == 1 else f"{group}: {name}"
            close = close_matches(name, groups()[group])
            meant = f"; did you mean {' or '.join(close[:2])}?" if close else ""
            problems.append((what, f"no such {group}{meant} (dltrain list {group})"))
    return problems


def _apply(config: Any, override: Any) -> str | None:
    """Set one key of `config`; the problem, if there is no such key."""
    from omegaconf import OmegaConf, open_dict

    key = override.key_or_group.replace("/", ".")
    known = OmegaConf.select(config, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT
    parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
    takes = known or _signature_takes(parent, key.rpartition(".")[2], config)
    if not takes and not (_is_new_node(override) and _holds_nodes(config, key.rpartition(".")[0])):
        return unknown_key(config, key)
    with open_dict(config):
        if override.is_delete():
            del parent[key.rpartition(".")[2]]  # what builds it has a default of its own
        else:
            # model={_target_: mine.Net} is another model, not more keys of this one
            OmegaConf.update(config, key, override.value(), merge=not _is_new_node(override), force_add=True)
    return None


_ABSENT = object()


def _signature_takes(node: Any, name: str, config: Any) -> bool:
    """Whether the node's target has an argument that its file leaves out, such as model.num_classes."""
    from omegaconf import DictConfig

    if node is config or not isinstance(node, DictConfig):
        return False
    of_network = node._get_full_key("").startswith("task.optimizers.") and "_target_" not in node
    if "_target_" in node or of_network:
        taken = arguments_of(config.optimizer if of_network else node, config)
        return taken is None or name in taken
    return node._key() == "expect"


def _is_new_node(override: Any) -> bool:
    return _is_value(override) and "_target_" in override.value()


def _holds_nodes(config: Any, key: str) -> bool:
    """Whether `key` holds nodes under names of the user's choice, such as callbacks and task.metrics."""
    from omegaconf import OmegaConf

    if key in (*COMPOSING, "callbacks"):
        return True
    owner, _, name = key.rpartition(".")
    taken = arguments_of(OmegaConf.select(config, owner), config) if owner else {}
    return taken is not None and name in taken and is_mapping_of_objects(taken[name].annotation)


def _resolve(composed: Composed, config: Any) -> dict[Way, str]:
    """Replace every interpolation by its value; those that have none become null and are reported once.

    Returns the text of those that read the environment, by the way to them.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    reasons, values, as_typed = {}, [], {}
    with environment() as read:
        for node, path in interpolations(config):
            read.clear()
            name, key = path[-1], dotted(path)
            text, value = node._get_node(name)._value(), None
            try:
                value = node[name]
                value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            except (OmegaConfBaseException, RecursionError) as e:
                reason = "it refers to itself" if isinstance(e, RecursionError) else first_line(e)
                reasons[key] = reason.rpartition("resolving interpolation: ")[2].strip('"')
            values.append((node, name, value))
            if read:
                as_typed[path] = text
                composed.secret.add(key)
    for node, name, value in values:
        node[name] = value
    composed.unresolved = set(reasons)
    causes = [key for key in reasons if key in composed.typed] or list(reasons)  # the others refer to these
    composed.problems += [(composed.typed.get(key, key), f"cannot be resolved: {reasons[key]}") for key in causes]
    return as_typed


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the defaults of the settings that it lacks (deleted, or the file is older), and ~ expanded."""
    from dltrain.config.settings import Paths, Settings, Trainer

    config = {**asdict(Settings()), **config}
    for name, defaults in (("paths", Paths), ("trainer", Trainer)):
        if isinstance(config.get(name), dict):
            config[name] = {**asdict(defaults()), **config[name]}
    if isinstance(config["paths"], dict):
        for name, value in config["paths"].items():
            config["paths"][name] = str(Path(value).expanduser()) if isinstance(value, str) else value
    return config


def raise_problems(problems: list[Problem]) -> None:
    if problems:
        raise ConfigError(problems)
