"""The classes that a run was trained on, beside those of other data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dltrain.errors import InputError

MAX_NAMES_SHOWN = 50


def unknown_classes(unknown: Iterable[str], trained: Sequence[str]) -> InputError:
    """Return the error for data with classes that the run does not know."""
    spelled = {name.strip().lower(): name for name in trained}
    named = []
    for name in unknown:
        alike = spelled.get(name.strip().lower())
        named.append(f"{name} (it knows {alike})" if alike is not None else name)
    more = f" and {len(trained) - MAX_NAMES_SHOWN:,} more" if len(trained) > MAX_NAMES_SHOWN else ""
    known = ", ".join(trained[:MAX_NAMES_SHOWN])
    return InputError(f"the run knows no class {', '.join(named)}; its classes are {known}{more}")
