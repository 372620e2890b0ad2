"""`dltrain config [KEY] [overrides]`: the whole composed configuration as YAML.

`--cfg job` does the same, as in Hydra.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import yaml

from dltrain.config.check import raise_all
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.look_up import look_up
from dltrain.console import is_encodable
from dltrain.options import Options, require_choice

log = logging.getLogger("dltrain")
WHOLE = ("job", "all")  # values of --cfg for which the configuration is printed
HYDRA = "hydra"
NO_HYDRA = "# dltrain takes Hydra's grammar alone: there is no configuration of Hydra itself"


def config(options: Options) -> None:
    """Print the configuration, or the part below a key, and report its problems.

    Interpolations are printed as they are written, and with --resolve as a run would save them:
    replaced by their values, except for those from the environment.
    """
    if options.cfg is not None:
        require_choice("--cfg", options.cfg, (*WHOLE, HYDRA))
    if options.cfg == HYDRA:
        log.info(NO_HYDRA)
        return
    composed = compose(options.overrides)
    shown = shown_part(composed, options)
    options.outcome["config"] = shown
    if not options.json:
        print(as_yaml_text(shown), end="")  # not logged: lines must not be wrapped
    raise_all(composed)


def shown_part(composed: Composed, options: Options) -> Any:
    """Return the configuration, or the part of it that is asked for."""
    shown: Any = composed.as_written()
    if options.resolve:
        shown = composed.public
    for key in filter(None, [*options.names, options.package]):
        shown = part_below(composed, shown, key)
    return shown


def part_below(composed: Composed, shown: Any, key: str) -> Any:
    """Return what stands below a dotted key.

    Raises UsageError for a key that the configuration does not have.
    """
    full_key = full_key_of(composed, key)
    value, _ = look_up(composed, full_key)
    for name in full_key.split("."):
        if not isinstance(shown, dict) or name not in shown:
            return value  # a default of its class
        shown = shown[name]
    return shown


def as_yaml_text(value: Any) -> str:
    """Return a value as YAML, with escapes where the screen's encoding lacks a character."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if not is_encodable(text, sys.stdout.encoding):
        text = yaml.safe_dump(value, sort_keys=False)
    return text.removesuffix("...\n")  # ends a document of a single value
