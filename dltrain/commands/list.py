"""`dltrain list [group]`: what can be chosen, a line each. Reads the YAML files only."""

from __future__ import annotations

import logging

from dltrain.config.groups import groups, summary
from dltrain.config.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.report.text import table

log = logging.getLogger("dltrain")


def list_(options: Options) -> None:
    known = groups()
    if options.overrides:
        group = options.overrides[0].partition("=")[0]
        raise UsageError(
            f"list takes groups, not settings: dltrain list {group if group in known else 'model'}"
        )
    for name in options.names:
        if name not in known:
            close = close_matches(name, known)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"no such group: {name}{meant} (there are {', '.join(known)})")
    wanted = options.names or list(known)
    for group in wanted:
        rows = [(option, summary(group, option)) for option in known[group]]
        if rows:
            log.info(f"{group}\n{table(rows)}")
    log.info(
        "\nchoose with GROUP=OPTION, as in: dltrain model=mlp dataset=mnist    details: dltrain show GROUP/OPTION"
    )
    options.outcome.update(
        {group: {o: summary(group, o) for o in known[group]} for group in wanted}
    )
