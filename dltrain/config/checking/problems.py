"""The problems of a configuration, each under the override that caused it."""

from __future__ import annotations

from typing import Any

from dltrain.config.compose import Composed
from dltrain.config.overrides import Problem
from dltrain.config.schema import MAX_VALUE_CHARS, shortened

MAX_OVERRIDE_CHARS = 3 * MAX_VALUE_CHARS  # of an override that is shown whole


class Problems:
    """Collects problems of a composed configuration."""

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        self.found: list[Problem] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, what: str, why: str) -> None:
        """Add a problem of `what` was typed."""
        self.found.append((what, why))

    def report(self, key: str, value: Any, why: str) -> None:
        """Add a problem of a key: under its override, or under the key and value that a file set.

        A key whose interpolation failed has been reported already.
        """
        if key in self.composed.unresolved:
            return
        typed = self.composed.typed.get(key)
        if typed is None:
            shown = "(from the environment)" if self.is_secret(key) else _in_short(value)
            typed = f"{key}={shown}"
        if len(typed) > MAX_OVERRIDE_CHARS:
            typed = f"{typed[:MAX_VALUE_CHARS]}..."
        self.add(typed, why)

    def is_secret(self, key: str) -> bool:
        """Return True if the value of `key`, or a part of it, comes from the environment."""
        for secret in self.composed.secret:
            if f"{key}.".startswith(f"{secret}.") or f"{secret}.".startswith(f"{key}."):
                return True
        return False


def _in_short(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    if value is None:
        return "null"
    return shortened(" ".join(str(value).split()))
