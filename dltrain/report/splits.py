"""Messages about the splits of a dataset: how the test split was made, and which is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.types import CountsClasses, Data, MakesTestSplit

SHOWN_CLASSES = 3


def sizes(data: Data) -> str:
    """Return the number of samples of every split in words, and the rule of a test split."""
    parts = f"{data.train.samples:,} training, {data.val.samples:,} validation"
    if not data.test.samples:
        return f"{parts} and no test samples"
    text = f"{parts} and {data.test.samples:,} test samples"
    rule = test_rule(data)
    if rule:
        text += f" ({rule})"
    return text


def test_rule(data: Data) -> str:
    """Describe how the test split was chosen; "" if the data came with it."""
    if isinstance(data, MakesTestSplit):
        return data.test_rule()
    return ""


def empty_splits(data: Data, settings: Mapping[str, Any]) -> list[str]:
    """Return messages about empty held-out splits and untested classes.

    `settings` are those of the dataset: a fraction of 0 asks for no split.
    """
    messages = []
    val_fraction = settings.get("val_fraction")
    if val_fraction and not data.val.samples:
        messages.append(
            f"dataset.val_fraction={val_fraction} leaves no validation samples, so no best "
            "checkpoint can be chosen; add data or raise dataset.val_fraction"
            f"{samples_per_class(data)}"
        )
    test_fraction = settings.get("test_fraction")
    if test_fraction and not data.test.samples:
        messages.append(
            f"dataset.test_fraction={test_fraction} leaves no test samples, so there are no test "
            "metrics; add data, raise dataset.test_fraction, or set it to 0 if you want no test"
            f"{samples_per_class(data)}"
        )
    return messages + untested_classes(data)


def samples_per_class(data: Data) -> str:
    """Return a clause with the mean number of samples per class, for stratified splits."""
    classes = data.spec.num_classes
    if classes < 2 or data.spec.boxes:
        return ""
    mean = data.train.samples / classes
    return (
        f"; the fraction is taken of each of {classes:,} classes, "
        f"which have {mean:.1f} training samples on average"
    )


def untested_classes(data: Data) -> list[str]:
    """Return a message if a test split that dltrain made has no sample of some classes."""
    names = data.spec.class_names
    counts = test_class_counts(data)
    if len(counts) != len(names):
        return []
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    if not absent:
        return []
    shown = ", ".join(absent[:SHOWN_CLASSES])
    if len(absent) > SHOWN_CLASSES:
        shown += ", ..."
    return [
        f"{len(absent):,} of {len(names):,} classes have no test sample, so no test metric covers "
        f"them: {shown}; add data or raise dataset.test_fraction"
    ]


def test_class_counts(data: Data) -> tuple[int, ...]:
    """Return the samples per class of a test split that dltrain made; empty for other data."""
    has_classes = bool(data.spec.class_names) and not data.spec.boxes
    if not has_classes or not data.test.samples or not test_rule(data):
        return ()
    if not isinstance(data.test, CountsClasses):
        return ()
    return data.test.class_counts(data.spec.num_classes)
