"""The metrics that decide which trial of a sweep is the best, checked before the first one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from dltrain.config.suggestions.spelling import close_matches
from dltrain.engine import Direction
from dltrain.errors import ConfigError
from dltrain.sweeps.samplers.outlook import Outlook
from dltrain.sweeps.summary.ranking import OF_RUNS, Criterion

log = logging.getLogger("dltrain")
VAL = "val/"
TEST = "test/"
TRAIN = "train/"
MODES: tuple[Direction, ...] = ("max", "min")
Mode = Literal["max", "min"]


def objectives_of(
    metric: str | Sequence[str | None] | None,
    mode: str | Sequence[str] | None,
    outlook: Outlook,
) -> list[Criterion]:
    """Return what `sweep.metric` and `sweep.mode` compare trials by, in their order.

    `metric` None, alone or in a list, is the watched metric; `mode` None is the direction that the
    task declares.

    Raises:
        ConfigError: A metric is unknown, or has no direction.
    """
    names = [outlook.watch if name is None else name for name in listed(metric)]
    if "" in names:
        why = f"these runs watch no metric; choose one of {', '.join(known_metrics(outlook))}"
        raise ConfigError([("sweep.metric=null", why)])
    require_distinct(names)
    modes = modes_of(mode, names)
    problems: list[tuple[str, str]] = []
    objectives = []
    for name, typed in zip(names, modes, strict=True):
        try:
            objectives.append(Criterion(name, typed or declared_direction(name, outlook)))
        except ValueError as e:
            problems.append((f"sweep.metric={name}", str(e)))
    if problems:
        raise ConfigError(problems)
    warn_of_tests(names, outlook)
    return objectives


def warn_of_tests(names: Sequence[str], outlook: Outlook) -> None:
    """Log that a trial chosen by the test set has no test result that one could report."""
    for name in names:
        if name.startswith(TEST) and outlook.watch.startswith(VAL):
            log.warning(
                f"sweep.metric={name} chooses by the test set: the best trial's {name} is then "
                f"better than on new data; {name.replace(TEST, VAL, 1)} chooses without it"
            )


def listed(metric: str | Sequence[str | None] | None) -> list[str | None]:
    """Return one metric or several as a list, with None for the watched one."""
    if metric is None or isinstance(metric, str):
        return [metric]
    return list(metric) or [None]


def as_list(value: str | Sequence[str] | None) -> list[str]:
    """Return one text or several as a list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    return list(value)


def require_distinct(names: list[str]) -> None:
    """Raise ConfigError if a metric stands twice."""
    if len(set(names)) < len(names):
        raise ConfigError([(f"sweep.metric=[{','.join(names)}]", "names a metric twice")])


def modes_of(mode: str | Sequence[str] | None, names: list[str]) -> list[Direction | None]:
    """Return the typed direction of each metric; None for one that is not typed.

    Raises ConfigError if there is not one for each.
    """
    modes = as_list(mode)
    if not modes:
        return [None] * len(names)
    typed = f"sweep.mode=[{','.join(modes)}]"
    if len(modes) != len(names):
        why = f"needs a direction for each of {len(names)} metrics: {', '.join(names)}"
        raise ConfigError([(typed, why)])
    directions: list[Direction | None] = []
    for one in modes:
        if one not in MODES:
            raise ConfigError([(typed, f"{one} is not a direction: max or min")])
        directions.append("max" if one == "max" else "min")
    return directions


def declared_direction(name: str, outlook: Outlook) -> Direction:
    """Return which way a metric is better; ValueError if it is unknown, or declares none."""
    if name == outlook.watch:
        return outlook.mode
    known = known_metrics(outlook)
    if name not in known:
        longer = [one for one in known if one.startswith(name) or one.endswith(f"/{name}")]
        close = longer + close_matches(name, known)
        question = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"is not one of the metrics: {', '.join(known)}{question}")
    direction = known[name]
    if direction is None:
        raise ValueError(
            "does not declare which way it is better: set sweep.mode=max or sweep.mode=min"
        )
    return direction


def known_metrics(outlook: Outlook) -> dict[str, Direction | None]:
    """Return the metrics that a trial's results will have, each with its direction."""
    known: dict[str, Direction | None] = {}
    for split in (VAL, TEST):
        known |= {f"{split}{name}": mode for name, mode in outlook.directions.items()}
    for name in outlook.training:
        known[f"{TRAIN}{name}"] = outlook.directions.get(name)
    return known | dict.fromkeys(OF_RUNS, "min")
