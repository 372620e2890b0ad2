"""A table that was read and encoded, and what a run learned from its training table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from dltrain.data.io.number_format import PLAIN, NumberFormat
from dltrain.data.tabular.encoding import Encoder
from dltrain.data.tabular.table import RowPlaces
from dltrain.types import Spec


@dataclass(frozen=True)
class EncodedTable:
    """The inputs (N, F) float32 and targets of all rows, and the rows of each split.

    Targets are class numbers (N,), or standardized numbers (N, T). `target_formats` is how the
    table writes each target; `digest` names its content. `places` are file and line of the rows,
    table by table.
    """

    spec: Spec
    encoder: Encoder
    target_formats: tuple[NumberFormat, ...]
    inputs: Tensor
    targets: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    digest: str
    places: tuple[RowPlaces, ...]

    def place(self, row: int) -> str:
        """Return file and line of a row."""
        for places in self.places:
            if row < len(places):
                return places[row]
            row -= len(places)
        raise IndexError(row)

    def size_in_bytes(self) -> int:
        """Return how much memory inputs and targets occupy."""
        return self.inputs.nbytes + self.targets.nbytes

    def fingerprint(self) -> str:
        """Return the digest of the table."""
        return self.digest


@dataclass(frozen=True)
class KnownColumns:
    """The columns of a table and their formats, as far as they are known before it is read.

    A target format is None where the reader has to find it. Without `class_names` the targets are
    numbers.
    """

    encoder: Encoder
    target_formats: tuple[NumberFormat | None, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class LearnedTable:
    """Everything that a run learned from its training table; its `spec` counts no samples.

    Runs of older versions have no `target_formats`; they compare labels that are numbers as such.
    """

    spec: Spec
    encoder: Encoder
    target_formats: tuple[NumberFormat | None, ...] | None
    class_counts: tuple[int, ...]
    digest: str

    def columns(self, num_targets: int) -> KnownColumns:
        """Return how to read another table."""
        unknown: tuple[NumberFormat | None, ...] = (None,) * num_targets
        formats = self.target_formats or unknown
        return KnownColumns(self.encoder, formats, self.spec.class_names)


def describe(
    spec: Spec,
    encoder: Encoder,
    target_formats: Sequence[NumberFormat | None],
    class_counts: Sequence[int],
    digest: str,
) -> dict[str, Any]:
    """Return what is saved of a training table, as plain values for JSON."""
    return {
        "encoder": encoder.description(),
        "class_names": list(spec.class_names),
        "class_counts": list(class_counts),
        "target_formats": [asdict(one or PLAIN) for one in target_formats],
        "target_names": list(spec.target_names),
        "target_mean": list(spec.target_mean),
        "target_std": list(spec.target_std),
        "digest": digest,
    }


def described_format(fields: dict[str, str] | None) -> NumberFormat | None:
    """Return the format of a number column from a description; None if it has none."""
    if fields is None:
        return None
    return NumberFormat(**fields)


def parse(description: dict[str, Any]) -> LearnedTable:
    """Return the content of a description.

    Raises KeyError, TypeError or ValueError for a malformed one.
    """
    encoder = Encoder.from_description(description["encoder"])
    spec = Spec(
        input_shape=(len(encoder.feature_names),),
        class_names=tuple(description["class_names"]),
        train_samples=0,
        test_samples=0,
        target_names=tuple(description["target_names"]),
        target_mean=tuple(description["target_mean"]),
        target_std=tuple(description["target_std"]),
        feature_names=encoder.feature_names,
        cardinalities=encoder.cardinalities,
    )
    formats = None
    if "target_formats" in description:
        formats = tuple(map(described_format, description["target_formats"]))
    class_counts = tuple(description.get("class_counts", ()))
    return LearnedTable(spec, encoder, formats, class_counts, description["digest"])
