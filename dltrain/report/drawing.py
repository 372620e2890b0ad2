"""Results of an evaluation as pixels, by their kind: images, tables, planes, plots and points."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.report.pictures import heat_map, image_grid
from dltrain.report.plots import fields, plot, points
from dltrain.types import Embedding, Grid, Image, Plot, Table

Pixels = NDArray[np.uint8]
PNG_COMPRESSION = 1  # of 9; the others take several times as long for drawings hardly smaller


def draw(value: Any) -> Pixels | None:
    """Return a result as pixels (H, W, 3); None for one that is not drawn."""
    if isinstance(value, Image) and not len(value.pixels):
        return None
    drawing = DRAWINGS.get(type(value))
    return drawing(value) if drawing else None


def as_png(pixels: Pixels) -> bytes:
    """Return pixels (H, W, 3) as the content of a PNG file, compressed quickly."""
    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()


def separate_plots(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the results that matplotlib draws, and the others."""
    plots = {}
    others = {}
    for name, value in values.items():
        if isinstance(value, Grid | Plot | Embedding):
            plots[name] = value
        else:
            others[name] = value
    return plots, others


DRAWINGS: dict[type, Callable[[Any], Pixels]] = {
    Image: image_grid,
    Table: lambda table: heat_map(table.shown()),
    Grid: fields,
    Plot: plot,
    Embedding: points,
}
