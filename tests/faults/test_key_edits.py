"""One edit of every configuration key: misspelled, another type, out of range; with + and ++.

All are refused before data is loaded, and for a misspelled key the right one is suggested. The full
form (DLTRAIN_FAULTS=full) takes every option of conf/, the quick one a share. Edits of one option
that cannot meet each other go into one composition: every problem is reported at once, each under
the override as it was typed.
"""

from __future__ import annotations

import os
import random
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from dltrain.config.check import problems_of
from dltrain.config.compose import compose, compose_over
from dltrain.config.groups import COMPOSING, OVERLAYS, groups, read_option
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.config.settings import Settings
from dltrain.types import Ge, Gt, Le, Lt

FULL = os.environ.get("DLTRAIN_FAULTS") == "full"
OPTIONS = [("", "")] + [
    (group, option) for group, options in groups().items() for option in options
]
SEED = 3
PREFIXES = ("", "+", "++")


@dataclass(frozen=True)
class Edit:
    """An override that is wrong in one way, and the meant key if the key is wrong."""

    kind: str
    text: str
    meant: str = ""


def keys(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of plain values, those of nodes in nodes too."""
    for name, value in node.items():
        if name.startswith("_") or name == "defaults":
            continue
        if isinstance(value, dict) and value:
            yield from keys(value, f"{prefix}{name}.")
        elif "/" not in name and "." not in name:  # others are patterns, of lr_factors
            yield f"{prefix}{name}"


def keys_of(group: str, option: str, config: dict[str, Any]) -> list[str]:
    """Return the keys that an option brings.

    Without an option: those outside groups. Of an overlay: those that its file sets.
    """
    if not group:
        own = {name: value for name, value in config.items() if name not in groups()}
        return [key for key in keys(own) if not key.startswith("expect")]
    if group in OVERLAYS:
        found = [
            key
            for key in keys(read_option(group, option))
            if not key.startswith(("expect", "debug"))
        ]
        return [key for key in found if key.partition(".")[0] in config]
    return [key for key in keys({group: config[group]}) if key != group]


def annotation_of(config: dict[str, Any], key: str) -> Any:
    """Return the annotation of a key in the signature behind it."""
    node: Any = config
    taken = arguments(Settings)
    annotation: Any = Any
    for part in key.split("."):
        annotation = taken[part].annotation if part in taken else Any
        node = node[part] if isinstance(node, dict) else None
        if isinstance(node, dict) and "_target_" in node:
            taken = arguments(locate(node["_target_"]))
        else:
            taken = (
                arguments(annotation) if isinstance(annotation, type) and part == "paths" else {}
            )
    return annotation


def parts_of(annotation: Any) -> Iterator[Any]:
    """An annotation taken apart: the members of unions, without the ranges."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from parts_of(args[0])
    elif origin in (typing.Union, types.UnionType):
        for arg in args:
            yield from parts_of(arg)
    else:
        yield annotation


def wrong_types(annotation: Any) -> list[str]:
    """Values of types that the annotation does not admit."""
    parts = list(parts_of(annotation))
    origins = {typing.get_origin(part) or part for part in parts}
    if Any in origins or object in origins:
        return []
    numbers = {int, float} & origins
    plain = [] if str in origins else ["zzqx"]
    plain += [] if dict in origins else ["{zzqx: 1}"]
    plain += [] if {list, tuple} & origins else ["[zzqx, 1]"]
    plain += [] if bool in origins else ["true"]
    plain += [] if numbers or Literal in origins else ["3.25"]
    plain += ["1.5"] if numbers == {int} else []
    return plain + ([] if type(None) in origins else ["null"])


def out_of_range(annotation: Any) -> list[str]:
    """Return numbers outside the annotation's bounds and unknown choices, within lists too."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    found = []
    if origin is Annotated:
        for bound in args[1:]:
            if isinstance(bound, Gt):
                found += [f"{bound.gt:g}", f"{bound.gt - 1:g}"]
            elif isinstance(bound, Ge):
                found.append(f"{bound.ge - 1:g}")
            elif isinstance(bound, Lt):
                found.append(f"{bound.lt:.0f}" if bound.lt > 2**53 else f"{bound.lt:g}")
            elif isinstance(bound, Le):
                found.append(f"{bound.le + 1:g}")
        found += ["nan", "inf"] if args[0] is float else []
    elif origin in (typing.Union, types.UnionType):
        found = [value for arg in args for value in out_of_range(arg)]
    elif origin in (list, tuple) and args:
        found = [f"[{value}]" for value in out_of_range(args[0])]
    return found


def other_case(annotation: Any) -> list[str]:
    """A named value as nobody writes it."""
    names = [
        name
        for part in parts_of(annotation)
        if typing.get_origin(part) is Literal
        for name in typing.get_args(part)
    ]
    return [name.upper() for name in names if isinstance(name, str) and name.upper() != name][:1]


def misspelt(name: str, draw: random.Random) -> list[tuple[str, str]]:
    """(kind, name): two letters swapped, one dropped, one doubled."""
    places = [i for i in range(len(name) - 1) if name[i] != name[i + 1]]
    found = []
    if places:
        i = draw.choice(places)
        found.append(("swapped", name[:i] + name[i + 1] + name[i] + name[i + 2 :]))
    i = draw.randrange(len(name))
    found += [("dropped", name[:i] + name[i + 1 :])] if len(name) > 1 else []
    i = draw.randrange(len(name))
    return [*found, ("doubled", name[: i + 1] + name[i:])]


def edits(group: str, option: str, config: dict[str, Any]) -> list[Edit]:
    """Return every edit of one option's keys and name."""
    draw = random.Random(f"{SEED} {group}/{option}")
    own = keys_of(group, option, config)
    result = []
    for key in own:
        result += misspelled_keys(key, set(own), draw)
        if "." in key and group not in OVERLAYS:
            result += misspelled_groups(key, config, draw)
        result += wrong_values(key, config)
    if group:
        result += misspelled_options(group, option, draw)
    return result


def misspelled_keys(key: str, taken: set[str], draw: random.Random) -> Iterator[Edit]:
    """Yield edits of a key's last part, none of which is one of `taken`."""
    parent, _, name = key.rpartition(".")
    above = f"{parent}." if parent else ""
    for prefix in PREFIXES:
        for kind, wrong in misspelt(name, draw):
            if f"{above}{wrong}" not in taken and re.fullmatch(r"[A-Za-z_]\w*", wrong):
                yield Edit(f"key {kind}", f"{prefix}{above}{wrong}=1", key)
        if name.upper() != name:
            yield Edit("key in another case", f"{prefix}{above}{name.upper()}=1", key)


def misspelled_groups(key: str, config: dict[str, Any], draw: random.Random) -> Iterator[Edit]:
    """Yield edits of a key's first part."""
    top, _, rest = key.partition(".")
    for kind, wrong in misspelt(top, draw):
        if wrong not in groups() and wrong not in config:
            yield Edit(f"group {kind}", f"{wrong}.{rest}=1", key)


def wrong_values(key: str, config: dict[str, Any]) -> Iterator[Edit]:
    """Yield a key with values of another type, out of its range and in another case."""
    annotation = annotation_of(config, key)
    values = [("type", value) for value in wrong_types(annotation)]
    values += [("range", value) for value in out_of_range(annotation)]
    values += [("value in another case", value) for value in other_case(annotation)]
    for i, (kind, value) in enumerate(values):
        yield Edit(kind, f"{PREFIXES[i % 3]}{key}={value}")


def misspelled_options(group: str, option: str, draw: random.Random) -> Iterator[Edit]:
    """Yield edits of an option's name."""
    wrong_names = [*misspelt(option, draw), ("in another case", option.upper())]
    for kind, wrong in wrong_names:
        if wrong not in groups()[group] and wrong.isidentifier():
            for prefix in PREFIXES:
                yield Edit(f"option {kind}", f"{prefix}{group}={wrong}", option)


def batches(every: list[Edit]) -> Iterator[list[Edit]]:
    """Return the edits in few lists, in which no key is given two values.

    Edits whose key does not exist can stand beside any other.
    """
    left = every
    while left:
        batch: dict[str, Edit] = {}
        rest = []
        for edit in left:
            key = edit.text if edit.meant else edit.text.partition("=")[0].lstrip("+")
            if key in batch:
                rest.append(edit)
            else:
                batch[key] = edit
        yield list(batch.values())
        left = rest


def choice(group: str, option: str) -> list[str]:
    if not group:
        return []
    return [f"{group}=[{option}]" if group in COMPOSING else f"{group}={option}"]


def right(edit: Edit, why: str) -> bool:
    """Tell if the suggestion names the meant key, first or as the second of two."""
    meant = re.escape(edit.meant)
    return re.search(rf"did you mean (\S+ or )?{meant}(?![\w.]*\w)", why) is not None


def survey(options: list[tuple[str, str]]) -> tuple[Counter[str], list[str], list[str]]:
    """Count the edits of each kind: all, the accepted ones, those with another suggestion."""
    counted: Counter[str] = Counter()
    accepted, misled = [], []
    for group, option in options:
        chosen = choice(group, option)
        config = compose(chosen).config
        for i, batch in enumerate(batches(edits(group, option, config))):
            where = " ".join(chosen)
            texts = [edit.text for edit in batch]
            # the first has every misspelled name; values are set over one composition
            told = dict(
                problems_of(compose([*chosen, *texts]) if i == 0 else compose_over(config, texts))
            )
            for edit in batch:
                counted[edit.kind] += 1
                why = told.get(edit.text)
                if why is None:
                    accepted.append(f"{where} {edit.text}")
                elif edit.meant:
                    counted["suggestions"] += 1
                    if not right(edit, why):
                        misled.append(f"{where} {edit.text}: {why}")
    return counted, accepted, misled


def test_every_edit_of_every_key_is_refused_and_the_right_key_suggested() -> None:
    options = OPTIONS if FULL else random.Random(SEED).sample(OPTIONS, 3)
    counted, accepted, misled = survey(options)
    suggestions = counted.pop("suggestions")
    for kind, count in sorted(counted.items()):
        print(f"one edit on every key, {kind}: {count} edits")
    share = 1 - len(misled) / suggestions
    print(
        f"{sum(counted.values())} edits of {len(options)} options: {len(accepted)} accepted, ",
        end="",
    )
    print(f"{share:.1%} of {suggestions} suggestions right")
    print("\n".join(misled))
    assert accepted == []
    assert share >= 0.95
    assert sum(counted.values()) > (4000 if FULL else 100)


def test_nothing_is_loaded_before_an_edit_is_refused(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself: exit 2, and no data set was opened, no folder made."""
    from dltrain.data.images.mnist import MNIST

    monkeypatch.setattr(
        MNIST, "__init__", lambda self, **given: pytest.fail("the data set was built")
    )
    draw = random.Random(SEED)
    every = edits("dataset", "mnist", compose(["dataset=mnist"]).config)
    for edit in [
        e for e in draw.sample(every, 60 if FULL else 12) if not e.kind.startswith("option")
    ]:
        outcome = dltrain("dataset=mnist", edit.text)
        assert outcome.code == 2, (edit, outcome.err)
        assert edit.text in outcome.err
    assert not Path("outputs").exists()
