"""Looks for faults of a data set: duplicates, conflicts, leaks, rare classes, drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from dltrain.report.lint.classes import class_findings
from dltrain.report.lint.columns import constant_columns, drift, leaking_columns
from dltrain.report.lint.duplicates import duplicates
from dltrain.report.lint.findings import Finding
from dltrain.report.lint.near_duplicates import near_duplicates
from dltrain.report.lint.samples import SplitSamples, collected
from dltrain.types import Data, HasColumns, ReadsInOrder, Spec

PARTS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def lint(data: Data) -> list[Finding]:
    """Return what is wrong with the samples of images, tables and texts with targets.

    Series, running text, translations, boxes and environments are not looked at.
    """
    if not isinstance(data, ReadsInOrder) or not has_separate_samples(data.spec):
        return []
    columns = data.input_columns() if isinstance(data, HasColumns) else {}
    splits = list(samples_of(data, data.spec, columns))
    train = splits[0]
    findings = duplicates(splits, noun_of(data.spec), data.spec.class_names)
    findings += near_duplicates(splits)
    if data.spec.class_names:
        findings += class_findings(splits, data.spec.class_names)
    names = tuple(columns) or feature_names(data.spec, train)
    if columns:
        findings += [*constant_columns(train, names), *leaking_columns(train, names)]
    for other in splits[1:]:
        findings += drift(train, other, names)
    return findings


def has_separate_samples(spec: Spec) -> bool:
    """Return whether the samples of a data set are of their own, and have targets to compare."""
    if spec.actions or spec.boxes or spec.continues or spec.target_vocab_size:
        return False
    is_table = bool(spec.feature_names) and len(spec.input_shape) == 1
    is_text = bool(spec.vocab_size and spec.class_names)
    return spec.is_image or is_table or is_text


def samples_of(
    data: ReadsInOrder, spec: Spec, columns: Mapping[str, slice]
) -> Iterator[SplitSamples]:
    """Yield the samples of each split; `spec` is that of the data after it was read."""
    for part in PARTS:
        batches = data.ordered_batches(part)
        yield collected(part, batches, spec, data.ordered_names(part), columns)


def noun_of(spec: Spec) -> str:
    """Return what several samples of a data set are called."""
    if spec.is_image:
        return "images"
    return "texts" if spec.vocab_size else "rows"


def feature_names(spec: Spec, train: SplitSamples) -> Sequence[str]:
    """Return the names of the numbers that `SplitSamples.features` has of images and texts."""
    if spec.vocab_size:
        return ("the length of texts",)
    channels = range(train.features.shape[1] // 2)
    means = [f"the brightness of channel {channel}" for channel in channels]
    return (*means, *(f"the contrast of channel {channel}" for channel in channels))
