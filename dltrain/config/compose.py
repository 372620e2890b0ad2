"""From overrides to a configuration, with every problem at once.

The way: parse the overrides (overrides.py), compose the files of the chosen options
(composition.py), set single keys (keys.py), resolve interpolations (interpolation.py). A problem is
set aside, and the rest is composed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dltrain.config.composing.choices import (
    option_problems,
    remove_option,
    sort_overrides,
    valid_choices,
)
from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.copying import copied
from dltrain.config.composing.interpolation import Way, resolve, with_text
from dltrain.config.composing.keys import configuration_key, set_key
from dltrain.config.composing.missing import missing_keys, missing_value
from dltrain.config.composing.shared import shared
from dltrain.config.groups import COMPOSING, OVERLAYS, own_dir
from dltrain.config.overrides import Problem, expand_home, parse
from dltrain.errors import InputError, first_line
from dltrain.shell import setting

Frozen = str | tuple[str, ...] | None  # what is chosen in a group
MAX_KEPT = 64  # configurations that were composed last
_kept: dict[str, Any] = {}


@dataclass
class Composed:
    """A configuration as plain data, with what the command line contributed.

    `public` is what may be written into files: the same as `config`, but a value that comes from
    the environment stands there as it was typed. When it is read again, it is looked up again.
    """

    config: dict[str, Any]
    choices: dict[str, Any]  # {group: option}
    typed: dict[str, str] = field(default_factory=dict)  # dotted key: the override as it was typed
    problems: list[Problem] = field(default_factory=list)
    unresolved: set[str] = field(default_factory=set)  # keys whose interpolation failed (reported)
    secret: set[str] = field(default_factory=set)  # keys whose value comes from the environment
    public: dict[str, Any] = field(default_factory=dict)
    interpolated: dict[Way, str] = field(default_factory=dict)  # the texts of interpolations

    def as_written(self) -> dict[str, Any]:
        """Return the configuration with interpolations instead of their values."""
        return with_text(self.config, self.interpolated)


def compose(overrides: list[str]) -> Composed:
    """Compose `overrides` over conf/ and the user's folder of options."""
    parsed, problems = parse(overrides)
    kinds = sort_overrides(parsed)
    chosen, wrong_choices = valid_choices(kinds)
    config, choices = choose(chosen)
    for override in chosen:
        options = override.value()
        if isinstance(options, list) and override.key_or_group not in COMPOSING:  # model=[mlp]
            choices[override.key_or_group] = options[0]
    typed = {override.key_or_group: override.input_line for override in chosen}
    composed = Composed(config, choices, typed, [*problems, *wrong_choices])
    _refuse_plugins(composed, config, [override.key_or_group for override in kinds.values])
    for override in kinds.deletions:
        if override.key_or_group not in OVERLAYS:
            composed.problems += remove_option(config, override)
    return _set_values(composed, config, kinds.values)


def compose_over(saved: dict[str, Any], overrides: list[str]) -> Composed:
    """Compose `overrides` over a saved configuration.

    A choice replaces the group's node by the option's own.

    Raises:
        InputError: the saved configuration holds what no configuration can.
    """
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    parsed, problems = parse(overrides)
    kinds = sort_overrides(parsed)
    try:
        config: Any = OmegaConf.create(saved)
    except (OmegaConfBaseException, RecursionError) as e:
        raise InputError(f"a run's configuration cannot be read: {first_line(e)}") from e
    OmegaConf.set_struct(config, True)
    composed = Composed({}, {}, {}, problems)
    for override in [*kinds.choices, *kinds.deletions]:
        group = override.key_or_group
        wrong_options = [] if override.is_delete() else option_problems(override)
        if group in OVERLAYS:
            why = f"a run keeps its {group}; start a new one for another"
            composed.problems.append((override.input_line, why))
        elif override.is_delete():
            composed.problems += remove_option(config, override)
        elif wrong_options:
            composed.problems += wrong_options
        else:
            with open_dict(config):
                config[group] = choose([override])[0][group]
            composed.typed[group] = override.input_line
    return _set_values(composed, config, kinds.values)


def full_key_of(composed: Composed, key: str) -> str:
    """Return the dotted key of a composed configuration that `key` stands for."""
    from omegaconf import OmegaConf

    return configuration_key(OmegaConf.create(composed.config), key)


def choose(choices: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Compose what Hydra's overrides GROUP=OPTION choose.

    Returns:
        A DictConfig of the caller's own without room for new keys, and {group: option}.
    """
    typed = {override.key_or_group: override.value() for override in choices}
    frozen = ((group, tuple(v) if isinstance(v, list) else v) for group, v in typed.items())
    config, options = _composed(own_dir.get(), tuple(frozen))
    return copied(config), dict(options)


@shared
def _composed(
    own: Path | None, typed: tuple[tuple[str, Frozen], ...]
) -> tuple[Any, dict[str, Any]]:
    """Return the DictConfig of the `typed` choices, which nobody changes, and {group: option}."""
    choices = {group: list(v) if isinstance(v, tuple) else v for group, v in typed}
    files, chosen = compose_files(choices)
    options = {group: option for group, option in chosen.items() if not isinstance(option, list)}
    return _as_dictconfig(files), options


def _as_dictconfig(files: dict[str, Any]) -> Any:
    """Return a DictConfig without room for new keys, which nobody changes.

    It is kept: a copy takes a tenth of the time of a new one.
    """
    from omegaconf import OmegaConf

    key = repr(files)
    if key not in _kept:
        config = OmegaConf.create(files)
        OmegaConf.set_struct(config, True)
        if len(_kept) == MAX_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = config
    return _kept[key]


def _refuse_plugins(composed: Composed, config: Any, typed: list[str]) -> None:
    """Report and remove plugins that a file names: a file that somebody shares is not code."""
    from omegaconf import OmegaConf

    plugins: Any = config._get_node("plugins")
    if OmegaConf.is_config(plugins):
        plugins = OmegaConf.to_container(plugins)
    else:
        plugins = plugins._value()
    if not plugins or "plugins" in typed:
        return
    names: str | list[str] = str(plugins)
    if isinstance(plugins, list):
        names = [str(plugin) for plugin in plugins]
    override = setting("plugins", names)
    why = f"a file cannot name plugins: type {override} yourself"
    composed.problems.append((override, why))
    config.plugins = []


def _set_values(composed: Composed, config: Any, values: list[Any]) -> Composed:
    """Set the keys that were typed, and complete `composed`."""
    for override in values:
        key, problem = set_key(config, override)
        if problem:
            composed.problems.append((override.input_line, problem))
        else:
            composed.typed[key] = override.input_line
    resolved = resolve(config)
    composed.secret = resolved.secret
    composed.unresolved = set(resolved.failed)
    typed_causes = [key for key in resolved.failed if key in composed.typed]
    for key in typed_causes or resolved.failed:  # the others refer to these
        what = composed.typed.get(key, key)
        composed.problems.append((what, f"cannot be resolved: {resolved.failed[key]}"))
    missing = missing_keys(resolved.config)
    composed.unresolved.update(missing)
    composed.problems += [missing_value(config, key, composed.choices) for key in missing]
    composed.config = _complete(resolved.config)
    composed.public = _complete(resolved.public)
    composed.interpolated = resolved.interpolated
    return composed


def _absent(defaults: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that a node lacks."""
    return {key: value for key, value in defaults.items() if key not in node}


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` with the defaults of the settings that it lacks, and ~ in paths expanded.

    Settings are lacking where they were deleted, or the file is of an earlier version.
    """
    from dltrain.config.settings import Checkpoints, Paths, Settings, Trainer

    config = {**asdict(Settings()), **config}
    nodes = {"paths": Paths, "trainer": Trainer, "checkpoints": Checkpoints}
    for name, defaults in nodes.items():
        if isinstance(config.get(name), dict):
            config[name] = {**config[name], **_absent(asdict(defaults()), config[name])}
    paths = config["paths"]
    if isinstance(paths, dict):
        for name, path in paths.items():
            if isinstance(path, str):
                paths[name] = expand_home(path)
    return config
