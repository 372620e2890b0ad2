"""From overrides to a configuration: composed by Hydra, with every problem at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dltrain.config.groups import conf_dir, groups, option_file, own_dir, read_option
from dltrain.config.schema import Argument, arguments, as_yaml, close_matches, is_mapping_of_objects, similarity
from dltrain.errors import ConfigError, UsageError

VERSION_BASE = "1.3"
OVERLAYS = ("experiment", "debug")  # groups that set keys anywhere, and may be left out
COMPOSING = ("regularization", "preprocessing")  # groups of which any number is chosen, each under its own name

GLOBAL = "the first line of such a file has to be # @package _global_"
LIKE = 0.6  # how similar two names are at least for one to be meant by the other
SYNONYMS = {"learning_rate": "lr", "bs": "batch_size", "batchsize": "batch_size"}

Problem = tuple[str, str]


@dataclass
class Composed:
    """A configuration as plain data, with what the command line had to do with it."""

    config: dict[str, Any]
    choices: dict[str, Any]
    typed: dict[str, str] = field(default_factory=dict)  # dotted key: the override as it was typed
    problems: list[Problem] = field(default_factory=list)
    unresolved: set[str] = field(default_factory=set)  # dotted keys whose interpolation failed: reported already


def parse(overrides: list[str], sweep: bool = False) -> tuple[list[Any], list[Problem]]:
    """Hydra's override objects, and the texts that are not overrides with what would be."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            problems.append((text, f"is not an override: settings are KEY=VALUE{_as_setting(text)}"))
            continue
        try:
            override = _parse_override(parser, text)
        except HydraException as e:
            problems.append((text, f"cannot be read as KEY=VALUE: {str(e).splitlines()[0]}"))
            continue
        if override.is_sweep_override() and not sweep:
            problems.append((text, f"several values are a sweep: dltrain -m {text}"))
        else:
            parsed.append(override)
    return parsed, problems


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


def common_keys() -> list[str]:
    return [
        *("trainer.epochs", "trainer.steps", "trainer.max_seconds", "trainer.accumulate", "dataset.batch_size"),
        *("optimizer.lr", "device.precision", "device.compile", "model.activation", "seed", "name"),
        *(group for group in groups()),
    ]


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
    config, choices = _hydra([o.input_line for o in good])
    composed = Composed(config, choices, {o.key_or_group: o.input_line for o in good}, problems)
    _check_files(composed, config, [override.key_or_group for override in values])
    return _set_values(composed, config, values)


def _check_files(composed: Composed, config: Any, typed: list[str]) -> None:
    """Take out what a file of the user's may not do, or cannot have meant."""
    from omegaconf import DictConfig, open_dict

    for overlay in OVERLAYS:
        if isinstance(config.get(overlay), DictConfig):
            choice = composed.choices[overlay]
            composed.problems.append((f"{overlay}={choice}", f"{option_file(overlay, choice)}: {GLOBAL}"))
            with open_dict(config):
                del config[overlay]
    if config.plugins and "plugins" not in typed:  # a file that somebody shares is not code
        named = f"plugins=[{','.join(map(str, config.plugins))}]"
        composed.problems.append((named, f"a file cannot name plugins: type {named} yourself"))
        config.plugins = []


def compose_over(saved: dict[str, Any], overrides: list[str]) -> Composed:
    """`overrides` over a saved configuration: a group override replaces the group's node by the option's own."""
    from omegaconf import OmegaConf, open_dict

    parsed, problems = parse(overrides)
    config: Any = OmegaConf.create(saved)
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
                config[group] = _hydra([override.input_line])[0][group]
            composed.typed[group] = override.input_line
    return _set_values(composed, config, values)


def _set_values(composed: Composed, config: Any, values: list[Any]) -> Composed:
    from omegaconf import OmegaConf

    for override in values:
        problem = _apply(config, override)
        if problem:
            composed.problems.append((override.input_line, problem))
        else:
            composed.typed[override.key_or_group] = override.input_line
    _resolve(composed, config)
    plain: Any = OmegaConf.to_container(config)
    composed.config = _complete(plain)
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


def _hydra(overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    GlobalHydra.instance().clear()
    if own := own_dir.get():
        quoted = str(own).replace("\\", "\\\\").replace("'", "\\'")
        overrides = [f"hydra.searchpath=['file://{quoted}']", *overrides]
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
            config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as e:
        first = str(e).splitlines()[0]
        more = f" ({GLOBAL})" if any(f"@{overlay}." in first for overlay in OVERLAYS) else ""
        raise UsageError(f"the configuration cannot be composed: {first}{more}") from e
    except YAMLError as e:
        raise UsageError(f"the configuration cannot be read: {' '.join(str(e).split())}") from e
    choices = dict(OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        del config["hydra"]
    return config, {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}


def _apply(config: Any, override: Any) -> str | None:
    """Set one key of `config`; the problem, if there is no such key."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    key = override.key_or_group.replace("/", ".")
    known = OmegaConf.select(config, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT
    parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
    takes = known or _signature_takes(parent, key.rpartition(".")[2], config)
    if not takes and not (_is_new_node(override) and _holds_nodes(config, key.rpartition(".")[0])):
        return unknown_key(config, key)
    try:
        with open_dict(config):
            if override.is_delete():
                del parent[key.rpartition(".")[2]]  # what builds it has a default of its own
            else:
                # model={_target_: mine.Net} is another model, not more keys of this one
                OmegaConf.update(config, key, override.value(), merge=not _is_new_node(override), force_add=True)
    except (OmegaConfBaseException, TypeError, KeyError) as e:
        return str(e).splitlines()[0]
    return None


_ABSENT = object()


def _signature_takes(node: Any, name: str, config: Any) -> bool:
    """Whether the node's target has an argument that its file leaves out, such as model.num_classes."""
    from omegaconf import DictConfig

    if node is config or not isinstance(node, DictConfig):
        return False
    if "_target_" in node:
        taken = _arguments_of(node, config)
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
    taken = _arguments_of(OmegaConf.select(config, owner), config) if owner else {}
    return taken is not None and name in taken and is_mapping_of_objects(taken[name].annotation)


def _arguments_of(node: Any, config: Any) -> dict[str, Argument] | None:
    """The arguments of a node's target by name; None if the target is not allowed, which is reported as such."""
    from omegaconf import DictConfig

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    try:
        return arguments(locate(str(node["_target_"]), list(config.get("plugins") or [])))
    except UsageError:
        return None


def unknown_key(config: Any, key: str) -> str:
    """What to write instead of a key that does not exist."""
    from omegaconf import OmegaConf

    group, _, rest = key.partition(".")
    if group in COMPOSING and rest.split(".")[0] in groups()[group]:
        return f"not chosen: {group}=[{rest.split('.')[0]}]"
    if options := _options_with(group, rest):
        have = "has" if len(options) == 1 else "have"
        return f"no such key in this {group}; {', '.join(f'{group}={o}' for o in options)} {have} it"
    close = _close_key(config, key)
    if close is None:
        return (
            f"no such key (dltrain show {group})" if group in groups() else "no such key (dltrain list, dltrain show)"
        )
    value = OmegaConf.select(config, close, throw_on_missing=False, throw_on_resolution_failure=False)
    known = close in leaves(config) and not OmegaConf.is_config(value)
    return f"no such key; did you mean {close}{f' (now {as_yaml(value)})' if known else ''}?"


def _options_with(group: str, key: str) -> list[str]:
    """The options of `group` whose file sets `key`."""
    return [option for option in groups().get(group, []) if key and key in read_option(group, option)]


def _close_key(config: Any, key: str) -> str | None:
    """The key most like `key`: the same last name anywhere, else one like it, first where it would stand."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    name = SYNONYMS.get(name, name)
    above = {key[:i] for i, letter in enumerate(key) if letter == "."}
    keys = [k for k in leaves(config) if k not in above or not OmegaConf.is_config(OmegaConf.select(config, k))]
    keys = [k for k in common_keys() if k in keys] + keys
    here = OmegaConf.select(config, parent) if parent else config
    same = [k for k in keys if k.rpartition(".")[2] == name]
    if parent and OmegaConf.is_config(here):
        keys = [k for k in keys if k.rpartition(".")[0] == parent]
        keys += [f"{parent}.{argument}" for argument in _arguments_of(here, config) or []]
    scores = {k: similarity(name, k.rpartition(".")[2]) for k in keys}
    alike = [k for k, score in scores.items() if LIKE <= score == max(scores.values())]
    return next(iter([*same, *alike, *([] if OmegaConf.is_config(here) else close_matches(key, keys))]), None)


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration, groups' names included, `_target_` and its kind left out."""
    from omegaconf import DictConfig

    keys = []
    for name in node:
        if str(name).startswith("_"):
            continue
        child = node._get_node(name)
        keys.append(f"{prefix}{name}")
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += leaves(child, f"{prefix}{name}.")
    return keys


def _resolve(composed: Composed, config: Any) -> None:
    """Replace every interpolation by its value; those that have none become null and are reported once."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    reasons, values = {}, {}
    for key in leaves(config):
        if OmegaConf.is_interpolation(*_parent_and_name(config, key)):
            try:
                values[key] = OmegaConf.select(config, key, throw_on_resolution_failure=True)
            except OmegaConfBaseException as e:
                reasons[key] = str(e).splitlines()[0].rpartition("resolving interpolation: ")[2].strip('"')
    for key, value in [*values.items(), *((key, None) for key in reasons)]:
        OmegaConf.update(config, key, value)
    composed.unresolved = set(reasons)
    causes = [key for key in reasons if key in composed.typed] or list(reasons)  # the others refer to these
    composed.problems += [(composed.typed.get(key, key), f"cannot be resolved: {reasons[key]}") for key in causes]


def _parent_and_name(config: Any, key: str) -> tuple[Any, str]:
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    return (OmegaConf.select(config, parent) if parent else config), name


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
