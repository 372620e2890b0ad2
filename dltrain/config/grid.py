"""The jobs of a sweep: every combination of the values that overrides separate by commas."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from dataclasses import replace
from typing import Any

from dltrain.config.checking.annotations import literals
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.groups import groups
from dltrain.config.look_up import look_up
from dltrain.config.overrides import parse, raise_problems, shuffled
from dltrain.errors import UsageError

log = logging.getLogger("dltrain")
MAX_JOBS = 10_000  # of a grid
TOO_MANY = (
    f"more than the {MAX_JOBS:,} jobs that a grid may have: take fewer values, or let "
    "sweep=random sweep.trials=NUMBER choose among them"
)
EXPECTED_RANGE = (
    "range(START,STOP,STEP) begins with START and ends before STOP, as in range(1,4) for 1,2,3 "
    "and range(3,0,-1) for 3,2,1"
)


def expand(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of each job; the last swept key varies fastest.

    If a swept key is set again, the last override counts, as in Hydra.

    Raises:
        ConfigError: An override cannot be read.
        UsageError: A swept key has no values, or there are more than MAX_JOBS jobs.
    """
    parsed, problems = parse(overrides, sweep=True)
    raise_problems(problems)
    fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
    swept = {_name(override) for override in parsed if override.is_sweep_override()}
    last = {_name(override): override for override in parsed}
    axes: list[list[str]] = []
    for override in parsed:
        counted = last[_name(override)]
        if _name(override) in swept and override is not counted:
            log.warning(f"{override.input_line} is not read: {counted.input_line} comes after it")
        else:
            axes.append(_axis(override, fixed))
    _require_few_jobs(axes)
    return [list(job) for job in itertools.product(*axes)]


def _name(override: Any) -> str:
    """Return the key of an override; a deletion is not the same as a value."""
    prefix = "~" if override.is_delete() else ""
    return f"{prefix}{override.key_or_group}"


def _require_few_jobs(axes: list[list[str]]) -> None:
    """Raise a UsageError for more combinations than one grid may have."""
    count = math.prod(len(axis) for axis in axes)
    if count <= MAX_JOBS:
        return
    swept = [axis for axis in axes if len(axis) > 1]
    sizes = [f"{len(axis):,} of {_key_in(axis[0])}" for axis in swept]
    raise UsageError(f"{count:,} jobs ({' x '.join(sizes)}) are {TOO_MANY}")


def _key_in(override: str) -> str:
    """Return the key of an override as text."""
    return override.partition("=")[0].lstrip("+")


def _axis(override: Any, fixed: list[str]) -> list[str]:
    """Return the overrides that one override stands for: itself, or one for each of its values."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise UsageError(
            f"{override.input_line}: a grid needs values, such as {override.key_or_group}=1,2,3; "
            "sweep=random or sweep=tpe draws them from an interval"
        )
    key = override.get_key_element()
    return [f"{key}={value}" for value in values_of(override, fixed)]


def values_of(override: Any, fixed: list[str]) -> list[str]:
    """Return the values of a swept override; `fixed` are the overrides that are not swept.

    A pattern stands for the options of a group, or for the named values of a key:
    model.activation=glob(*). Raises UsageError if nothing matches it.
    """
    from hydra.core.override_parser.types import Glob

    pattern = override.value()
    if not isinstance(pattern, Glob):
        return _listed_values(override)
    key = override.key_or_group
    names = groups()[key] if key in groups() else named_values(key, fixed)
    matching = list(pattern.filter(names))
    if not matching:
        known = f"there are {', '.join(names)}" if names else "its values have no names: KEY=1,2,3"
        raise UsageError(f"{override.input_line}: no {key} is called like that; {known}")
    return matching


def _listed_values(override: Any) -> list[str]:
    """Return the values of a choice or a range; shuffled ones have the same order each time.

    A sweep that is resumed has to number its jobs as before, so the order depends on the text of
    the override alone.

    Raises:
        UsageError: There are no values, or more than MAX_JOBS.
    """
    from hydra.errors import HydraException

    typed = override.input_line
    sweep = override.value()
    in_order = replace(override, _value=replace(sweep, shuffle=False))
    try:
        values = list(itertools.islice(in_order.sweep_string_iterator(), MAX_JOBS + 1))
    except (HydraException, ValueError, ArithmeticError) as e:  # as of a step of 0, or nan
        raise UsageError(f"{typed} has no values: {EXPECTED_RANGE}") from e
    if not values:
        raise UsageError(f"{typed} has no values: {EXPECTED_RANGE}")
    if len(values) > MAX_JOBS:
        raise UsageError(f"the values of {typed} are {TOO_MANY}")
    if sweep.shuffle:
        return shuffled(values, typed)
    return values


def named_values(key: str, fixed: list[str]) -> list[str]:
    """Return the named values that the signature behind `key` allows; UsageError for no key."""
    composed = compose(fixed)
    _, argument = look_up(composed, full_key_of(composed, key))
    return literals(argument.annotation) if argument is not None else []


def distinct(
    jobs: list[list[str]], composed: list[Composed]
) -> tuple[list[list[str]], list[Composed]]:
    """Return the jobs without those that have the configuration of an earlier one.

    A warning names each of those.
    """
    first: dict[bytes, int] = {}
    for i, one in enumerate(composed):
        digest = hashlib.sha256(repr(one.config).encode("utf-8", "surrogateescape")).digest()
        earlier = first.setdefault(digest, i)
        if earlier != i:
            job = " ".join(jobs[i])
            log.warning(f"{job} is left out: it is the same run as {' '.join(jobs[earlier])}")
    kept = list(first.values())
    return [jobs[i] for i in kept], [composed[i] for i in kept]


def swept_keys(jobs: list[list[str]]) -> list[str]:
    """Return the keys whose values differ between jobs."""
    keys = []
    for column in zip(*jobs, strict=True):
        if len(set(column)) > 1:
            keys.append(_key_in(column[0]))
    return keys
