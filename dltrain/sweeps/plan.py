"""The plan of a sweep: the sampler, the launcher and the checked configurations of a command."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from dltrain.config.check import problems_of
from dltrain.config.command_groups import is_of_command, split_overrides
from dltrain.config.compose import Composed, compose
from dltrain.config.groups import COMMAND_GROUPS
from dltrain.config.overrides import parse, raise_problems
from dltrain.config.policy import MAIN
from dltrain.distributed.environment import launched_size
from dltrain.errors import UsageError
from dltrain.experiment.instantiate import instantiate
from dltrain.runs.identity import FOLD_KEY, FOLDS_KEY
from dltrain.shell import setting
from dltrain.sweeps.definition import lasting_settings
from dltrain.sweeps.folds import fold_axis
from dltrain.sweeps.launchers.launcher import Launcher
from dltrain.sweeps.samplers.sampler import Sampler
from dltrain.sweeps.samplers.space import space_overrides

log = logging.getLogger("dltrain")
PLUGINS = "plugins"


@dataclass
class SweepPlan:
    """A sweep that is ready to run: its overrides, and what they choose.

    `settings` are those of the sampler that a resume may not change.
    """

    overrides: list[str]
    settings: dict[str, Any]
    sampler: Sampler
    launcher: Launcher

    @property
    def first(self) -> Composed:
        """A configuration of the sweep, for its places."""
        return self.sampler.first


@contextmanager
def planned(overrides: list[str]) -> Iterator[SweepPlan]:
    """Yield the sampler and the launcher that overrides choose, with checked configurations.

    The launcher warms up meanwhile, and is closed after the block.
    """
    own, of_runs = split_overrides(overrides)
    require_one_number_of_folds(of_runs)
    base = base_configuration(own, of_runs)
    plugins = base.config[PLUGINS]
    sampler: Sampler = instantiate(base.config["sweep"], "sweep", {}, plugins)
    launcher: Launcher = instantiate(base.config["launcher"], "launcher", {}, plugins)
    require_importable(plugins, launcher)
    require_together(launcher)
    typed = {key_in(override) for override in of_runs}
    sampler.prepare(base, of_runs)
    require_keys_of_runs(sampler.space)
    searched = {key: value for key, value in sampler.space.items() if key_in(key) not in typed}
    log_keys_left_out(sampler.space, searched)
    space = space_overrides(searched)
    axis = axis_of_folds(base, sampler, typed)
    with closing(launcher):
        launcher.warm_up()
        sampler.open([*of_runs, *space, *axis])
        yield SweepPlan(overrides, lasting_settings(base.config["sweep"]), sampler, launcher)


def log_keys_left_out(space: Mapping[str, Any], searched: Mapping[str, Any]) -> None:
    """Log which keys of `sweep.space` are not searched, since an override sets them."""
    for key in space:
        if key not in searched:
            name = key_in(key)
            log.info(f"sweep.space.{name} is not read: the command sets {name}")


def require_keys_of_runs(space: Mapping[str, Any]) -> None:
    """Raise ConfigError if `sweep.space` names code, or a setting that runs do not have."""
    problems = []
    for key in space:
        name = key_in(key)
        if name == PLUGINS:
            why = f"a file cannot name plugins: type {setting(PLUGINS, ['NAME'])} yourself"
            problems.append((f"sweep.space.{name}", why))
        elif is_of_command(key):
            problems.append((f"sweep.space.{name}", "is a setting of the sweep, not of its runs"))
    raise_problems(problems)


def require_importable(plugins: list[str], launcher: Launcher) -> None:
    """Raise UsageError if jobs of other processes would need classes of this program itself."""
    if MAIN in plugins and not launcher.in_process:
        raise UsageError(
            f"{setting(PLUGINS, [MAIN])}: the jobs run in other processes, which cannot import the "
            "classes of this script or notebook; set launcher=inline, or move the classes into a "
            "file of their own and import it"
        )


def require_together(launcher: Launcher) -> None:
    """Raise UsageError if jobs of other processes would train without those of torchrun."""
    if launched_size() > 1 and not launcher.in_process:
        raise UsageError(
            "torchrun's processes train one run after the other: add launcher=inline; or leave out "
            "torchrun, and set device.processes, which each job then starts"
        )


def require_one_number_of_folds(of_runs: list[str]) -> None:
    """Raise UsageError for several numbers of folds, unless one fold of each is chosen."""
    parsed, _ = parse(of_runs, sweep=True)
    keys = {override.key_or_group for override in parsed}
    for override in parsed:
        is_swept = override.key_or_group == FOLDS_KEY and override.is_sweep_override()
        if is_swept and FOLD_KEY not in keys:
            raise UsageError(
                f"{override.input_line}: a sweep over all folds has one number of folds; "
                f"{FOLD_KEY}=0 trains one fold of each"
            )


def axis_of_folds(base: Composed, sampler: Sampler, typed: set[str]) -> list[str]:
    """Return the override that sweeps over all folds, unless no folds or one of them is chosen.

    Raises UsageError if the sampler does not try all values.
    """
    if FOLD_KEY in typed:
        return []
    axis = fold_axis(base.config)
    if axis and not sampler.is_exhaustive:
        raise UsageError(
            f"sweep={base.choices['sweep']} chooses the values of each trial, and {axis[0]} must "
            f"all be tried; search with {FOLD_KEY}=0, then train all folds of the best trial"
        )
    return axis


def base_configuration(own: list[str], of_runs: list[str]) -> Composed:
    """Return a configuration with the settings of the sweep; ConfigError if these are wrong.

    It has the overrides of the runs that are not swept. What is wrong with those is found when
    the configurations of the trials are checked.
    """
    require_one_value(own)
    parsed, _ = parse(of_runs, sweep=True)
    fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
    base = compose([*own, *fixed])
    raise_problems([problem for problem in problems_of(base) if is_own(problem[0])])
    return base


def require_one_value(own: list[str]) -> None:
    """Raise ConfigError for settings of the sweep itself that have several values."""
    parsed, _ = parse(own, sweep=True)
    swept = [override.input_line for override in parsed if override.is_sweep_override()]
    raise_problems([(text, "is a setting of the sweep: give it one value") for text in swept])


def is_own(text: str) -> bool:
    """Tell if a problem's text begins with a key of the sweep's own groups."""
    return text.lstrip("+~\"'").startswith(COMMAND_GROUPS)


def key_in(override: str) -> str:
    """Return the key of an override, without + signs."""
    return override.partition("=")[0].lstrip("+")
