"""Names and texts of the figures of a network: its size and its latency. It imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dltrain.report.text import number, size

Figures = dict[str, float]
"""The figures of a network by name: those in `TITLES`."""
TITLES = {
    "weight_bytes": "weights on disk",
    "parameters": "parameters",
    "nonzero_parameters": "nonzero parameters",
    "flops": "FLOPs per sample",
    "latency_ms_1": "latency, batch 1",
    "latency_ms_64": "latency, batch 64",
}


def count(value: float) -> str:
    """Return a whole number as text."""
    return f"{value:,.0f}"


def millions(value: float) -> str:
    """Return a number of operations as text; a dash where it is not known."""
    return f"{number(value / 1e6)} M" if value else "-"


def milliseconds(value: float) -> str:
    """Return a time in milliseconds as text."""
    return f"{value:.3g} ms"


FORMATS: dict[str, Callable[[float], str]] = {
    "weight_bytes": size,
    "parameters": count,
    "nonzero_parameters": count,
    "flops": millions,
    "latency_ms_1": milliseconds,
    "latency_ms_64": milliseconds,
}


def figure_texts(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the title and the text of each figure of a network."""
    return [(TITLES[name], FORMATS[name](value)) for name, value in figures.items()]
