"""The classes that a run was trained on, beside those of other data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dltrain.errors import InputError, first_names

MAX_NAMES_SHOWN = 50


def unknown_classes(unknown: Iterable[str], trained: Sequence[str]) -> InputError:
    """Return the error for data with classes that the run does not know."""
    spelled = {name.strip().lower(): name for name in trained}
    named = []
    for name in unknown:
        alike = spelled.get(name.strip().lower())
        named.append(f"{name} (it knows {alike})" if alike is not None else name)
    return InputError(f"the run knows no class {few_of(named)}; its classes are {few_of(trained)}")


def few_of(names: Sequence[str]) -> str:
    """Return the first of `names`, and how many more there are."""
    return first_names(names, MAX_NAMES_SHOWN)
