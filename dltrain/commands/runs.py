"""`dltrain runs [ROOT]`: a table of all runs; with --delete, runs are moved to the trash."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.config.overrides import expand_home, take
from dltrain.errors import InputError, UsageError
from dltrain.options import Options, count_from
from dltrain.report.text import counted_noun, size
from dltrain.runs.find import OUTPUT_HINT
from dltrain.runs.listing.columns import (
    as_json_row,
    csv_columns,
    default_columns,
    runs_of,
    text_table,
    write_csv,
)
from dltrain.runs.listing.conditions import Condition, parse_condition
from dltrain.runs.listing.index import all_summaries
from dltrain.runs.listing.names import folder_of, references
from dltrain.runs.listing.rows import Row, grouped_rows, single_rows, sorted_rows
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import direction_of, require_known
from dltrain.runs.listing.verdicts import verdicts
from dltrain.runs.trash import Moved, empty_trash, move_to_trash, trash_content
from dltrain.shell import setting, shell_word
from dltrain.terminal import screen_width

log = logging.getLogger("dltrain")
MAX_ROWS = 1_000_000
LINES_OF_OTHERS = 6  # of a terminal: the prompt, the header, the last lines
MIN_ROWS = 5  # that are shown on the smallest terminal
MAX_SHOWN_FOLDERS = 10  # of those to delete
OUTPUT = "outputs"
WHICH_TO_DELETE = (
    "name the runs to delete, or select them: dltrain runs --delete RUN..., "
    "dltrain runs --delete --where status=failed"
)


def runs(options: Options) -> None:
    """Print the table of runs, or delete some."""
    if options.empty_trash:
        empty(options)
    elif options.delete:
        delete(options)
    else:
        print_runs(options)


@dataclass(frozen=True)
class Selection:
    """The runs under `root` that meet all conditions, the newest first.

    `hidden` is the number of debug runs that meet them and are left out; `summaries` are the runs
    under `root`, selected or not.
    """

    root: Path
    runs: list[RunSummary]
    hidden: int
    summaries: Sequence[RunSummary]


def select(root: Path, summaries: Sequence[RunSummary], options: Options) -> Selection:
    """Return the runs that the command is about."""
    conditions = conditions_of(summaries, options)
    selected = [run for run in summaries if all_accept(conditions, run)]
    shown = without_debug_runs(selected)
    if options.all or "debug" in [condition.key for condition in conditions]:
        shown = selected
    return Selection(root, shown, len(selected) - len(shown), summaries)


def conditions_of(summaries: Sequence[RunSummary], options: Options) -> list[Condition]:
    """Return the conditions that were typed; UsageError for a key that no run has."""
    conditions = [parse_condition(text) for text in options.where]
    for condition in conditions:
        require_known(condition.key, summaries)
    return conditions


def without_debug_runs(summaries: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs that trained in earnest."""
    return [run for run in summaries if not run.debug]


def all_accept(conditions: Sequence[Condition], run: RunSummary) -> bool:
    """Tell if a run meets every condition."""
    return all(condition.accepts(run) for condition in conditions)


def listed_root(options: Options) -> Path:
    """Return the output root: the word after the verb, or paths.output."""
    root = configured_root(options)
    if not options.names:
        return root
    root = Path(expand_home(options.names[0]))
    if len(options.names) > 1:
        raise UsageError(f"runs takes one folder: {' '.join(options.names)}")
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder of runs; `dltrain compare RUN RUN` compares runs by name"
        )
    return root


def configured_root(options: Options) -> Path:
    """Return paths.output as the overrides set it; UsageError for any other override."""
    paths, others = take(options.overrides, ["paths.output"])
    if others:
        raise UsageError(
            f"runs has no setting but paths.output=FOLDER; to select runs type: "
            f"dltrain runs --where {shell_word(others[0])}"
        )
    return Path(expand_home(paths.get("paths.output", OUTPUT)))


def print_runs(options: Options) -> None:
    """Print the selected runs as a table, CSV or JSON."""
    root = listed_root(options)
    selection = select(root, all_summaries(root), options)
    rows = rows_of(selection, options)
    shown = rows[: limit_of(options)]
    is_grouped = options.group is not None
    columns = keys_of("--columns", options.columns, selection.summaries)
    if options.json:
        options.outcome["root"] = str(root)
        options.outcome["runs"] = [as_json_row(row, root, is_grouped) for row in shown]
        if is_grouped:
            options.outcome["comparisons"] = comparisons(rows, selection, options)
    elif options.csv:
        write_csv(sys.stdout, shown, columns or csv_columns(shown, is_grouped), is_grouped)
    else:
        print_table(selection, shown, columns or default_columns(shown, is_grouped), options)
        print_left_out(len(rows), len(shown), selection.hidden)
        for line in comparisons(rows, selection, options):
            log.info(line)


def rows_of(selection: Selection, options: Options) -> list[Row]:
    """Return the rows of the table, grouped and sorted as the flags say."""
    rows = single_rows(selection.runs)
    if options.group is not None:
        keys = keys_of("--group", options.group, selection.summaries)
        rows = grouped_rows(selection.runs, keys)
    if options.sort is not None:
        return sorted_by(options.sort, rows, selection, options.desc)
    return rows[::-1] if options.desc else rows


def comparisons(rows: Sequence[Row], selection: Selection, options: Options) -> list[str]:
    """Return sentences that compare the groups; none without --group."""
    if options.group is None:
        return []
    return verdicts(rows, keys_of("--group", options.group, selection.summaries))


def sorted_by(
    typed: str, rows: Sequence[Row], selection: Selection, is_descending: bool
) -> list[Row]:
    """Return the rows sorted by a key, with - before it from high to low.

    A metric is sorted from the best to the worst, dates from the newest to the oldest.
    """
    key = typed.removeprefix("-")
    require_known(key, selection.summaries)
    metric = watched_metric(selection.runs) if key == "best" else key
    best_is_high = direction_of(metric, selection.runs) == "max"
    is_reversed = is_descending or typed.startswith("-") or best_is_high or key == "date"
    return sorted_rows(rows, key, is_reversed)


def watched_metric(selected: Sequence[RunSummary]) -> str:
    """Return the metric that the first of the runs watches."""
    return next((run.watch for run in selected if run.watch), "")


def keys_of(flag: str, text: str | None, summaries: Sequence[RunSummary]) -> list[str]:
    """Return the keys in a flag's value; UsageError for one that no run has."""
    keys = [key.strip() for key in (text or "").split(",") if key.strip()]
    if text and not keys:
        raise UsageError(f"{flag} {text}: expected keys with commas between them")
    for key in keys:
        if key != "runs":
            require_known(key, summaries)
    return keys


def limit_of(options: Options) -> int:
    """Return how many rows are shown: --limit, or on a terminal as many as fit."""
    if options.limit is not None:
        return count_from("--limit", options.limit, MAX_ROWS)
    if options.csv or options.json or screen_width() is None:
        return MAX_ROWS
    return max(MIN_ROWS, shutil.get_terminal_size().lines - LINES_OF_OTHERS)


def print_table(
    selection: Selection, shown: Sequence[Row], columns: Sequence[str], options: Options
) -> None:
    """Print the table, and what is wrong with damaged runs."""
    if not shown:
        log.info(nothing_to_show(selection, options))
        return
    log.info(text_table(shown, columns))
    for run in runs_of(shown):
        if run.problem:
            log.info(f"damaged  {run.problem}")


def nothing_to_show(selection: Selection, options: Options) -> str:
    """Return why the table has no row: no run is there, or none meets the conditions."""
    if not options.where or not selection.summaries or selection.hidden:
        return f"no run to show under {selection.root} ({OUTPUT_HINT})"
    count = counted_noun(len(selection.summaries), "run")
    conditions = " and ".join(options.where)
    return f"no run under {selection.root} meets {conditions} ({count} without conditions)"


def print_left_out(count: int, shown: int, hidden: int) -> None:
    """Print how many runs are not in the table."""
    notes = []
    if count > shown:
        notes.append(f"{count - shown:,} more (--limit {count} shows all)")
    if hidden:
        notes.append(f"{counted_noun(hidden, 'debug run')} hidden (--all shows them)")
    if notes:
        log.info("; ".join(notes))


def delete(options: Options) -> None:
    """Move the runs that are named or selected into the trash, after asking."""
    root = configured_root(options)
    summaries = all_summaries(root)
    folders = folders_to_delete(root, summaries, options)
    options.outcome["moved"] = []
    if not folders:
        log.info(f"no run under {root} meets the conditions; nothing is deleted")
        return
    print_folders(folders)
    for place, source in references(folders, root, summaries):
        log.warning(f"{place} was made from {source}, which will be in the trash")
    if confirmed(f"move {counted_noun(len(folders), 'run')} to the trash?", options):
        moved = move_to_trash(root, folders)
        report_moved(moved, root)
        options.outcome["moved"] = [{"from": str(m.source), "to": str(m.target)} for m in moved]


def folders_to_delete(root: Path, summaries: Sequence[RunSummary], options: Options) -> list[Path]:
    """Return the folders that are named, or those of the runs that are selected."""
    if bool(options.names) == bool(options.where):
        raise UsageError(WHICH_TO_DELETE)
    if options.where:
        return [root / run.path for run in select(root, summaries, options).runs]
    return list(dict.fromkeys(folder_of(name, root, summaries) for name in options.names))


def print_folders(folders: Sequence[Path]) -> None:
    """Print a line for each folder, or for the first ones if there are many."""
    for folder in folders[:MAX_SHOWN_FOLDERS]:
        log.info(f"  {folder}")
    if len(folders) > MAX_SHOWN_FOLDERS:
        log.info(f"  and {len(folders) - MAX_SHOWN_FOLDERS:,} more")


def confirmed(question: str, options: Options) -> bool:
    """Ask on a terminal; UsageError where nobody can answer, unless --yes was typed."""
    if options.yes:
        return True
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can answer here; add --yes")
    if answer(f"{question} [y/N] ").strip().lower() in ("y", "yes"):
        return True
    log.info("nothing is deleted")
    return False


def answer(question: str) -> str:
    """Return what is typed; "" at the end of the input."""
    try:
        return input(question)
    except EOFError:
        return ""


def report_moved(moved: Sequence[Moved], root: Path) -> None:
    """Print where the runs are now, and how to restore them."""
    log.info(f"moved {counted_noun(len(moved), 'run')} to the trash; to restore:")
    for one in moved[:MAX_SHOWN_FOLDERS]:
        log.info(f"  mv {shell_word(str(one.target))} {shell_word(str(one.source))}")
    if len(moved) > MAX_SHOWN_FOLDERS:
        log.info(f"  and in the same way {len(moved) - MAX_SHOWN_FOLDERS:,} more")
    where = "" if root == Path(OUTPUT) else f" {setting('paths.output', str(root))}"
    log.info(f"to delete them: dltrain runs --empty-trash{where}")


def empty(options: Options) -> None:
    """Delete what is in the trash, after asking."""
    root = listed_root(options)
    content = trash_content(root)
    options.outcome["deleted_bytes"] = 0
    if not content.deletions:
        log.info(f"the trash of {root} is empty")
        return
    print_folders(content.deletions)
    if confirmed(f"delete {size(content.size)} for ever?", options):
        empty_trash(content)
        log.info(f"deleted {size(content.size)}")
        options.outcome["deleted_bytes"] = content.size
