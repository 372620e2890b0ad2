"""`dltrain schema [KIND] [--out FILE.json|FOLDER]`: JSON Schemas of YAML files, for editors."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.config.compose import compose
from dltrain.config.editor.documents import WHOLE, document, documents
from dltrain.config.groups import OVERLAYS
from dltrain.config.overrides import raise_problems
from dltrain.config.suggestions.spelling import close_matches
from dltrain.errors import UsageError
from dltrain.files import replacing, to_json, writing
from dltrain.options import Options
from dltrain.report.text import counted_noun

log = logging.getLogger("dltrain")
SUFFIX = ".json"
PLUGINS = "plugins"


def schema(options: Options) -> None:
    """Print the schema of one kind of files, or write it; into a folder those of all kinds."""
    plugins = named_plugins(options)
    if options.out is not None and not options.out.endswith(SUFFIX):
        write_all(options, plugins)
        return
    kind = options.names[0] if options.names else WHOLE
    require_kind(kind)
    content = document(kind, plugins)
    if options.out is None:
        options.outcome["schema"] = content
        if not options.json:
            print(to_json(content, indent=1))  # not logged: lines must not be wrapped
        return
    path = Path(options.out)
    write(path, content)
    log.info(f"{path}: the schema of {described(kind)}")
    options.outcome["out"] = options.out


def named_plugins(options: Options) -> list[str]:
    """Return the packages of plugins=[...]; UsageError for another setting."""
    composed = compose(options.overrides)
    raise_problems(composed.problems)
    for key, typed in composed.typed.items():
        if key != PLUGINS:
            raise UsageError(
                f'schema takes no {typed}: it has every option of every group; "plugins=[NAME]" '
                "adds the classes of your own packages, --config-dir FOLDER your options"
            )
    return [str(plugin) for plugin in composed.config[PLUGINS]]


def require_kind(kind: str) -> None:
    """Raise UsageError for a kind of files that there is not."""
    kinds = documents()
    if kind in kinds:
        return
    close = close_matches(kind, kinds)
    hint = f"; did you mean {close[0]}?" if close else f" ({', '.join(kinds)})"
    raise UsageError(f"schema {kind}: no such kind of files{hint}")


def write_all(options: Options, plugins: list[str]) -> None:
    """Write the schemas of all kinds into a folder.

    Raises UsageError if a kind is named too, or the folder cannot be written.
    """
    if options.names:
        raise UsageError(f"--out {options.out}: the name of one schema ends in {SUFFIX}")
    folder = Path(options.out or "")
    with writing(f"--out {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    kinds = documents()
    for kind in kinds:
        write(folder / f"{kind}{SUFFIX}", document(kind, plugins))
    log.info(f"{folder}: {counted_noun(len(kinds), 'schema')}, {', '.join(kinds)}")
    options.outcome |= {"out": options.out, "kinds": kinds}


def write(path: Path, content: dict[str, object]) -> None:
    """Write a schema."""
    what = f"--out {path}"
    with replacing(path, what) as file, writing(what):
        file.write(to_json(content) + "\n")


def described(kind: str) -> str:
    """Return which files a schema is for."""
    if kind in (WHOLE, *OVERLAYS):
        return "whole configurations and experiments"
    return f"{kind}/*.yaml"
