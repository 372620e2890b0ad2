"""Settings of Hydra itself that mean the same here: the folder and the name of a run, tracebacks.

The others are refused with what to type instead (config/suggestions/habits/verbs.py). Nothing of
Hydra itself runs: a folder is taken from the command line only, as plain text.
"""

from __future__ import annotations

import re

from dltrain.options import Options

PLAIN_VALUE = re.compile(r"[^'\"$\\{}\[\](),]+")  # a text without interpolations and quotes
VERBOSE = {"true": True, "True": True, "false": False, "False": False}
AS_ALWAYS = ("hydra/launcher=basic", "hydra/sweeper=basic", "hydra.mode=RUN")
FOLDER_OF = {"train": "hydra.run.dir", "-m": "hydra.sweep.dir"}  # by verb
COMPOSING_VERBS = ("train", "-m", "check", "config")


def translate(verb: str, options: Options) -> None:
    """Take the settings of Hydra that mean the same here out of `options.overrides`.

    The folder becomes `options.folder`, the job's name the run's, and verbose --debug.
    """
    if verb not in COMPOSING_VERBS:
        return
    words = []
    for word in options.overrides:
        words += translated(word, verb, options)
    options.overrides = words


def translated(word: str, verb: str, options: Options) -> list[str]:
    """Return the override that is meant, if any; a folder and verbose are set in `options`."""
    key, _, value = word.partition("=")
    if word in AS_ALWAYS:
        return []
    if key == FOLDER_OF.get(verb) and PLAIN_VALUE.fullmatch(value):
        options.folder = value
        return []
    if key == "hydra.verbose" and value in VERBOSE:
        options.debug |= VERBOSE[value]
        return []
    if key == "hydra.job.name" and value:
        return [f"name={value}"]
    return [word]
