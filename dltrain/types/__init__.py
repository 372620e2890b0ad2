"""Words shared by every layer: ranges for annotations, the shape of a data set, and values that callbacks draw.

It imports nothing else of dltrain, and torch only for annotations.
"""

from __future__ import annotations

from typing import Any

from dltrain.types.abilities import (
    Acts,
    Answers,
    AuxiliaryHeads,
    CountsClasses,
    CountsUnknownTokens,
    Explains,
    Headlines,
    Inspects,
    Interaction,
    LooksAgain,
    MakesTestSplit,
    ReadForSpec,
    ReadsFiles,
    ReadsText,
    Samples,
    ShowsInside,
    ThroughTime,
    Watchable,
    Writes,
)
from dltrain.types.data import (
    Continues,
    Data,
    DataSplit,
    Sample,
    Source,
    Spec,
    Standardizes,
    Transform,
)
from dltrain.types.drawn import (
    Boxes,
    Embedding,
    Grid,
    Image,
    Listing,
    MarkedBox,
    Plot,
    Table,
    Text,
    shortened,
)
from dltrain.types.ranges import (
    BEGIN,
    END,
    PAD,
    UNKNOWN,
    Activation,
    BatchSize,
    ColumnName,
    Fraction,
    Ge,
    Gt,
    Interval,
    Le,
    Lt,
    Names,
    NonNegative,
    Norm,
    Often,
    Pooling,
    PositiveFloat,
    PositiveInt,
    Probability,
)

__all__ = [
    "BEGIN",
    "END",
    "PAD",
    "UNKNOWN",
    "Activation",
    "Acts",
    "Answers",
    "AuxiliaryHeads",
    "BatchSize",
    "Boxes",
    "ColumnName",
    "Continues",
    "CountsClasses",
    "CountsUnknownTokens",
    "Data",
    "DataSplit",
    "Embedding",
    "Explains",
    "Fraction",
    "Ge",
    "Grid",
    "Gt",
    "Headlines",
    "Image",
    "Inspects",
    "Interaction",
    "Interval",
    "Le",
    "Listing",
    "LooksAgain",
    "Lt",
    "MakesTestSplit",
    "MarkedBox",
    "Names",
    "NonNegative",
    "Norm",
    "Often",
    "Plot",
    "Pooling",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "ReadForSpec",
    "ReadsFiles",
    "ReadsText",
    "Sample",
    "Samples",
    "ShowsInside",
    "Source",
    "Spec",
    "Standardizes",
    "Table",
    "Text",
    "ThroughTime",
    "Transform",
    "Watchable",
    "Writes",
    "flatten",
    "shortened",
]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} as {"optimizer.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
