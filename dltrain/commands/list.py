"""`dltrain list [group]`: the options of every group, one per line. Reads the YAML files only."""

from __future__ import annotations

import logging

from dltrain.config.groups import groups, summary
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.report.text import table

log = logging.getLogger("dltrain")
HINT = (
    "\nchoose with GROUP=OPTION, as in: dltrain model=mlp dataset=mnist    "
    "details: dltrain show GROUP/OPTION"
)


def list_(options: Options) -> None:
    """Print the options of the named groups, or of all."""
    if options.overrides:
        raise UsageError(settings_message(options.overrides[0]))
    for name in options.names:
        if name not in groups():
            raise UsageError(unknown_group(name))
    for group in options.names or groups():
        options.outcome[group] = print_options(group)
    log.info(HINT)


def settings_message(override: str) -> str:
    """Return what to type instead of an override."""
    group = override.partition("=")[0]
    if group not in groups():
        group = "model"
    return f"list takes groups, not settings: dltrain list {group}"


def print_options(group: str) -> dict[str, str]:
    """Print a line for each option of a group; return the lines by option."""
    summaries = {option: summary(group, option) for option in groups()[group]}
    if summaries:
        log.info(f"{group}\n{table(list(summaries.items()))}")
    return summaries


def unknown_group(name: str) -> str:
    """Return what to type instead of a group that does not exist."""
    close = close_matches(name, groups())
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"no such group: {name}{hint} (there are {', '.join(groups())})"
