"""From overrides to a configuration: composed by Hydra, with every problem at once."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

from dltrain.config.annotations import is_mapping_of_objects
from dltrain.config.answers import option_for, unknown_option
from dltrain.config.composition import compose_files
from dltrain.config.groups import COMPOSING, OVERLAYS, groups
from dltrain.config.interpolation import Way, dotted, environment, interpolations
from dltrain.config.overrides import Problem, expand_home, parse
from dltrain.config.renamed import with_current_names
from dltrain.config.schema import Argument, as_yaml, wrong
from dltrain.config.source_keys import OWNER, full_key, without_shorthand
from dltrain.config.suggest import argument_of, arguments_of, unknown_key
from dltrain.errors import InputError, first_line

MAX_KEPT = 64  # configurations that were composed last
_kept: dict[str, Any] = {}
ESCAPED = "\\${"  # how text begins that is no interpolation


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
    unresolved: set[str] = field(
        default_factory=set
    )  # dotted keys whose interpolation failed: reported already
    secret: set[str] = field(
        default_factory=set
    )  # dotted keys whose value comes from the environment
    public: dict[str, Any] = field(default_factory=dict)


def compose(overrides: list[str]) -> Composed:
    """Compose `overrides` over conf/; what is wrong with them is set aside in `problems`, and the rest composed."""
    parsed, problems = parse(overrides)
    chosen, taken_out, values = _by_kind(parsed)
    good: list[Any] = []
    for override in chosen:
        unknown = _unknown_options(override)
        problems += unknown
        if not unknown and override.value() is None:  # an overlay that is taken back
            good = [o for o in good if o.key_or_group != override.key_or_group]
        elif not unknown:
            good.append(override)
    for override in taken_out:
        if override.key_or_group in OVERLAYS:
            problems += _take_back(good, override)
    config, choices = choose(good)
    lists = {o.key_or_group: o.value() for o in good if isinstance(o.value(), list)}
    choices |= {
        group: names[0] for group, names in lists.items() if group not in COMPOSING
    }  # model=[mlp]
    composed = Composed(config, choices, {o.key_or_group: o.input_line for o in good}, problems)
    _check_files(composed, config, [override.key_or_group for override in values])
    for override in taken_out:
        if override.key_or_group not in OVERLAYS:
            composed.problems += _take_out(config, override)
    return _set_values(composed, config, values)


def choose(choices: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Compose what Hydra's overrides GROUP=OPTION choose.

    Returns:
        A DictConfig of the caller's own without room for new keys, and {group: option}.
    """
    files, chosen = compose_files({override.key_or_group: override.value() for override in choices})
    return _as_dictconfig(files), {
        group: choice for group, choice in chosen.items() if not isinstance(choice, list)
    }


def _as_dictconfig(files: dict[str, Any]) -> Any:
    """Return a DictConfig without room for new keys; a copy of an earlier one takes half the time."""
    from omegaconf import OmegaConf

    key = repr(files)
    if key not in _kept:
        config = OmegaConf.create(files)
        OmegaConf.set_struct(config, True)
        if len(_kept) == MAX_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = config
    return copy.deepcopy(_kept[key])


def _by_kind(parsed: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Sort overrides into choices of a group, choices that are taken out (~GROUP=OPTION), and
    values of keys.
    """
    chosen: list[Any] = []
    taken_out: list[Any] = []
    values: list[Any] = []
    for override in parsed:
        if override.key_or_group in groups() and override.is_delete():
            taken_out.append(override)
        elif override.key_or_group in groups() and not _is_value(override):
            chosen.append(override)
        else:
            values.append(override)
    return chosen, taken_out, values


def _take_back(good: list[Any], override: Any) -> list[Problem]:
    """Remove the choice of an overlay from `good`, wherever it was typed, as Hydra does; return the
    problem, if any.
    """
    overlay, name = override.key_or_group, override.value()
    chosen = [o for o in good if o.key_or_group == overlay]
    if name is not None and (not chosen or chosen[-1].value() != name):
        return [(override.input_line, f"{overlay}={name} is not chosen")]
    for one in chosen:
        good.remove(one)
    return []


def _take_out(config: Any, override: Any) -> list[Problem]:
    """Remove one choice of a composing group from `config`; return the problem, if any."""
    from omegaconf import open_dict

    group, name = override.key_or_group, override.value()
    if group not in COMPOSING or not isinstance(name, str) or not name:
        return [(override.input_line, _none_of(group))]
    if name not in config[group]:
        return [
            (
                override.input_line,
                f"{name} is not chosen: {group}=[{','.join(map(str, config[group]))}]",
            )
        ]
    with open_dict(config):
        del config[group][name]
    return []


def _check_files(composed: Composed, config: Any, typed: list[str]) -> None:
    """Take out what a file of the user's may not do, or cannot have meant."""
    from omegaconf import OmegaConf

    plugins: Any = OmegaConf.to_container(config)["plugins"]  # type: ignore[call-overload, index]
    if plugins and "plugins" not in typed:  # a file that somebody shares is not code
        named = (
            f"plugins=[{','.join(map(str, plugins))}]"
            if isinstance(plugins, list)
            else f"plugins={plugins}"
        )
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
    chosen, taken_out, values = _by_kind(parsed)
    for override in [*chosen, *taken_out]:
        group = override.key_or_group
        if group in OVERLAYS:
            composed.problems.append(
                (override.input_line, f"a run keeps its {group}; start a new one for another")
            )
        elif override.is_delete():
            composed.problems += _take_out(config, override)
        elif unknown := _unknown_options(override):
            composed.problems += unknown
        else:
            with open_dict(config):
                config[group] = choose([override])[0][group]
            composed.typed[group] = override.input_line
    return _set_values(composed, config, values)


def _set_values(composed: Composed, config: Any, values: list[Any]) -> Composed:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in values:
        key = override.key_or_group.replace("/", ".")
        try:
            key = configuration_key(config, key)
            problem = _apply(config, key, override)
        except (OmegaConfBaseException, TypeError, KeyError) as e:
            problem = first_line(e)
        if problem:
            composed.problems.append((override.input_line, problem))
        else:
            composed.typed[key] = override.input_line
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
        return [(override.input_line, _none_of(group))]
    names = value if isinstance(value, list) else [value]
    if len(names) != 1 and group not in COMPOSING:
        meant = [option_for(group, str(name)) for name in names]
        if names and all(
            words is not None and "=" in words for words in meant
        ):  # [EarlyStopping,ModelCheckpoint]
            return [
                (
                    override.input_line,
                    f"{group} is one choice; did you mean {' '.join(map(str, meant))}?",
                )
            ]
        if names and str(names[0]) not in groups()[group] and meant[0]:  # device=[0,1]
            return [(override.input_line, unknown_option(group, str(names[0])))]
        return [
            (
                override.input_line,
                f"{group} is one choice; several values are a sweep: dltrain -m {group}=a,b",
            )
        ]
    problems = []
    for name in map(str, names):
        if name not in groups()[group]:
            what = override.input_line if len(names) == 1 else f"{group}: {name}"
            problems.append((what, unknown_option(group, name)))
    return problems


def _none_of(group: str) -> str:
    """Return what to type for no choice of a group, or that every run has one."""
    if group == "callbacks":
        return "for none: callbacks=quiet"
    if group in COMPOSING:
        return f"for none: {group}=[]"
    return f"every run has one: {group}=NAME (dltrain list {group})"


def full_key_of(composed: Composed, key: str) -> str:
    """Return the dotted key of a composed configuration that `key` stands for."""
    from omegaconf import OmegaConf

    return configuration_key(OmegaConf.create(composed.config), key)


def configuration_key(config: Any, typed_key: str) -> str:
    """Return the key of `config` that a dotted key stands for; see `source_keys.full_key`."""

    def is_listed(key: str) -> bool:
        return _is_listed(config, key)

    def is_accepted(key: str) -> bool:
        return _signature_takes(config, key)

    return full_key(typed_key, is_listed, is_accepted)


def _apply(config: Any, key: str, override: Any) -> str | None:
    """Set one key of `config`; return the problem, if there is no such key."""
    from omegaconf import OmegaConf, open_dict

    takes = _is_listed(config, key) or _signature_takes(config, key)
    if not takes and not (_is_new_node(override) and _holds_nodes(config, key.rpartition(".")[0])):
        return unknown_key(config, key, override.input_line.partition("=")[2])
    if override.is_delete():
        return _delete(config, key, override.value())
    value = with_current_names(override.value())
    if key == OWNER and _is_value(override):
        plain: Any = OmegaConf.to_container(config)
        value = without_shorthand(value, plain[OWNER])
    with open_dict(config):
        # model={_target_: mine.Net} is another model, not more keys of this one
        OmegaConf.update(config, key, value, merge=not _is_new_node(override), force_add=True)
    if isinstance(override.value(), bool | int | float):
        _keep_text(config, key, override)
    return None


def _delete(config: Any, key: str, value: Any) -> str | None:
    """Remove a key, so that what is built has its own default; return the problem, if the key has
    to be there.

    A `value` is that which the key must have, as in ~optimizer.lr=0.1.
    """
    from omegaconf import OmegaConf, open_dict

    current = OmegaConf.select(config, key, throw_on_missing=False)
    if value is not None and value != current:
        return f"{key} is {as_yaml(current)}, not {as_yaml(value)}"
    argument = argument_of(config, key)
    above, _, name = key.rpartition(".")
    if above in ("", "paths", "init") or (argument is not None and argument.required):
        owner = "every run" if above in ("", "paths", "init") else above
        return f"{owner} needs this key: {_instead_of_deleting(key, argument)}"
    with open_dict(config):
        del OmegaConf.select(config, above)[name]
    return None


def _instead_of_deleting(key: str, argument: Argument | None) -> str:
    """Return what to type for the default of a key, or to take an entry out of a mapping."""
    if argument is None or argument.required or key in ("init", "paths"):
        return f"set it (dltrain show {key})"
    if isinstance(argument.default, dict):
        return f"~{key}.NAME takes one entry out"
    return f"its default is {key}={as_yaml(argument.default)}"


def _keep_text(config: Any, key: str, override: Any) -> None:
    """Set a key that takes text to what was typed: dataset.target=1 is the column called 1, not the
    number.
    """
    from omegaconf import OmegaConf

    argument = argument_of(config, key)
    if argument is None:
        return
    text = override.input_line.partition("=")[2].strip()
    if wrong(override.value(), argument.annotation) and not wrong(text, argument.annotation):
        OmegaConf.update(config, key, text)


_ABSENT = object()


def _is_listed(config: Any, key: str) -> bool:
    """Return True if `config` holds `key`."""
    from omegaconf import OmegaConf

    return OmegaConf.select(config, key, default=_ABSENT, throw_on_missing=False) is not _ABSENT


def _signature_takes(config: Any, key: str) -> bool:
    """Return True if the node that owns `key` has a target with such an argument.

    Its file may leave the argument out, as with model.num_classes.
    """
    from omegaconf import DictConfig, OmegaConf

    owner, _, name = key.rpartition(".")
    node = OmegaConf.select(config, owner) if owner else config
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
    """Replace every interpolation by its value; those that have none become null and are reported
    once.

    Returns, by the way to them, the text of those that a file has to hold as typed: they read the
    environment, or have an escaped interpolation in them, which is text.
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
                value = (
                    OmegaConf.to_container(value, resolve=True)
                    if OmegaConf.is_config(value)
                    else value
                )
            except (OmegaConfBaseException, RecursionError) as e:
                reason = "it refers to itself" if isinstance(e, RecursionError) else first_line(e)
                reasons[key] = reason.rpartition("resolving interpolation: ")[2].strip('"')
            values.append((node, name, value))
            if read:
                composed.secret.add(key)
            if read or ESCAPED in text:
                as_typed[path] = text
    for node, name, value in values:
        node[name] = value
    composed.unresolved = set(reasons)
    causes = [key for key in reasons if key in composed.typed] or list(
        reasons
    )  # the others refer to these
    composed.problems += [
        (composed.typed.get(key, key), f"cannot be resolved: {reasons[key]}") for key in causes
    ]
    return as_typed


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the defaults of the settings that it lacks (deleted, or the file is older), and ~ expanded."""
    from dltrain.config.settings import Paths, Settings, Trainer

    config = {**asdict(Settings()), **config}
    for name, defaults in (("paths", Paths), ("trainer", Trainer)):
        if isinstance(config.get(name), dict):
            config[name] = {**asdict(defaults()), **config[name]}
    if isinstance(config["paths"], dict):
        for name, path in config["paths"].items():
            config["paths"][name] = expand_home(path) if isinstance(path, str) else path
    return config
