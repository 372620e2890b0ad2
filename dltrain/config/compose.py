"""From overrides to a configuration: composed by Hydra, with every problem at once."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dltrain.config.groups import conf_dir, groups, option_file, own_dir, read_option
from dltrain.config.read import DEEPEST, LONGEST_NUMBER
from dltrain.config.schema import Argument, arguments, as_yaml, close_matches, is_mapping_of_objects, similarity
from dltrain.errors import ConfigError, InputError, UsageError

VERSION_BASE = "1.3"
OVERLAYS = ("experiment", "debug")  # groups that set keys anywhere, and may be left out
COMPOSING = ("regularization", "preprocessing")  # groups of which any number is chosen, each under its own name

GLOBAL = "the first line of such a file has to be # @package _global_"
LIKE = 0.6  # how similar two names are at least for one to be meant by the other
SYNONYMS = {"learning_rate": "lr", "bs": "batch_size", "batchsize": "batch_size"}
LONGEST = 10_000  # characters of an override
OWN_VARIABLES = "DLTRAIN_"  # how the environment variables are called that are for dltrain itself
PER_RUN = ("overrides", "runtime", "searchpath")  # what of Hydra's own settings differs from run to run

Problem = tuple[str, str]
Way = tuple[str | int, ...]  # the names and positions that lead to a value


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
            problems.append((text, f"several values are a sweep: dltrain -m {text}"))
        else:
            parsed.append(override)
    return parsed, problems


def first_line(error: Exception) -> str:
    """Of what an error says, as much as fits into a report."""
    lines = (str(error) or str(error.__cause__ or "")).splitlines() or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]


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
    config, choices = _hydra([o.input_line.lstrip("+") for o in good])  # + and ++ choose like GROUP=OPTION
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
                config[group] = _hydra([override.input_line.lstrip("+")])[0][group]
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


def _hydra(overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    if own := own_dir.get():
        quoted = str(own).replace("\\", "\\\\").replace("'", "\\'")
        overrides = [f"hydra.searchpath=['file://{quoted}']", *overrides]
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
            config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
    except RecursionError as e:
        raise UsageError(f"the configuration cannot be composed: a file of {own} chooses itself in its defaults") from e
    except (HydraException, OmegaConfBaseException) as e:
        first = first_line(e)
        more = f" ({GLOBAL})" if any(f"@{overlay}." in first for overlay in OVERLAYS) else ""
        raise UsageError(f"the configuration cannot be composed: {first}{more}") from e
    choices = dict(OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]
    if own:
        _refuse_hydra(OmegaConf.to_container(config.hydra), own)  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        del config["hydra"]
    return config, {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}


def _refuse_hydra(settings: dict[str, Any], own: Path) -> None:
    """UsageError if a file of the user's, in the folder `own`, sets what Hydra would act on: callbacks, logging, folders."""
    without = _hydra_alone()
    settings["job"]["override_dirname"] = without["job"]["override_dirname"]  # the overrides once more
    for name in settings.keys() | without.keys():
        if name not in PER_RUN and settings.get(name) != without.get(name):
            raise UsageError(f"--config-dir {own}: a file of it sets hydra.{name}; hydra.* is not to be set")


@functools.cache
def _hydra_alone() -> dict[str, Any]:
    """Hydra's own settings as they are where nothing of the user's is read."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
        settings: Any = OmegaConf.to_container(hydra_compose("config", return_hydra_config=True).hydra)
    return dict(settings)


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
    from omegaconf import DictConfig, OmegaConf

    from dltrain.config.policy import locate

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return {}
    try:
        plugins: Any = OmegaConf.to_container(config).get("plugins")  # type: ignore[union-attr]
        return arguments(locate(str(node._get_node("_target_")), plugins if isinstance(plugins, list) else []))
    except UsageError:
        return None


def unknown_key(config: Any, key: str) -> str:
    """What to write instead of a key that does not exist."""
    from omegaconf import OmegaConf

    group, _, rest = key.partition(".")
    option = rest.partition(".")[0]
    if group in COMPOSING and option in groups()[group] and option not in config[group]:
        return f"not chosen: {group}=[{option}]"
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
    if parent and not OmegaConf.is_config(here):
        same.sort(key=lambda k: -similarity(key, k))  # optimzier.lr is optimizer.lr, dataste.epochs is dataset.epochs
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


def _resolve(composed: Composed, config: Any) -> dict[Way, str]:
    """Replace every interpolation by its value; those that have none become null and are reported once.

    Returns the text of those that read the environment, by the way to them.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    reasons, values, as_typed = {}, [], {}
    with _environment() as read:
        for node, path in _interpolations(config):
            read.clear()
            name, key = path[-1], _key(path)
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


def _interpolations(node: Any, path: Way = ()) -> Iterator[tuple[Any, Way]]:
    """Every interpolation of a configuration: what holds it, and the way to it. A `_target_` is none: it is text."""
    from omegaconf import DictConfig, OmegaConf

    for name in list(node) if isinstance(node, DictConfig) else range(len(node)):
        if isinstance(name, str) and name.startswith("_"):
            continue
        child = node._get_node(name)
        if OmegaConf.is_interpolation(node, name):
            yield node, (*path, name)
        elif OmegaConf.is_config(child) and not child._is_none() and not child._is_missing():
            yield from _interpolations(child, (*path, name))


def _key(path: Way) -> str:
    """The dotted key of a value; of what stands in a list that of the list."""
    names = [name for name in path if isinstance(name, str)]
    return ".".join(names)


@contextmanager
def _environment() -> Iterator[list[str]]:
    """Inside, a list that gets the name of every environment variable that is read, but for those of dltrain's own."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    read: list[str] = []

    def env(key: str, *default: Any) -> str | None:
        if not key.startswith(OWN_VARIABLES):
            read.append(key)
        return oc.env(key, *default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield read
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


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
