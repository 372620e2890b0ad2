"""Messages about a data set's splits: how the test split was made, and which split is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.types import CountsClasses, Data, MakesTestSplit

SHOWN_CLASSES = 3


def sizes(data: Data) -> str:
    """Return the number of samples of every split in words, with the rule by which a test split was
    made.
    """
    test = f"{data.test.samples:,} test" if data.test.samples else "no test"
    rule = data.test_rule() if data.test.samples and isinstance(data, MakesTestSplit) else ""
    made = f" ({rule})" if rule else ""
    return (
        f"{data.train.samples:,} training, {data.val.samples:,} validation and {test} samples{made}"
    )


def empty_splits(data: Data, settings: Mapping[str, Any]) -> list[str]:
    """Return a message for each held-out split that is empty although `settings` want one, and for
    untested classes.
    """
    messages = []
    if settings.get("val_fraction") and not data.val.samples:
        messages.append(
            f"dataset.val_fraction={settings['val_fraction']} leaves no validation samples, so no best "
            f"checkpoint can be chosen; add data or raise dataset.val_fraction{share_of_classes(data)}"
        )
    if settings.get("test_fraction") and not data.test.samples:
        messages.append(
            f"dataset.test_fraction={settings['test_fraction']} leaves no test samples, so there are no test "
            "metrics; add data, raise dataset.test_fraction, or set it to 0 if you want no test"
            f"{share_of_classes(data)}"
        )
    return messages + untested_classes(data)


def share_of_classes(data: Data) -> str:
    """Return a clause that says how few samples a class has, where the splits are made of each
    class alike.
    """
    classes = data.spec.num_classes
    if classes < 2 or data.spec.boxes:
        return ""
    mean = data.train.samples / classes
    return f"; the fraction is taken of each of {classes:,} classes, which have {mean:.1f} training samples on average"


def untested_classes(data: Data) -> list[str]:
    """Return a message where a test split that was made of the data has no sample of some classes."""
    names = data.spec.class_names
    is_made = isinstance(data, MakesTestSplit) and data.test_rule()
    if (
        not names
        or data.spec.boxes
        or not data.test.samples
        or not is_made
        or not isinstance(data.test, CountsClasses)
    ):
        return []
    counts = data.test.class_counts(len(names))
    absent = [name for name, count in zip(names, counts, strict=False) if not count]
    if not absent or len(counts) != len(names):
        return []
    shown = ", ".join(absent[:SHOWN_CLASSES]) + (", ..." if len(absent) > SHOWN_CLASSES else "")
    return [
        f"{len(absent):,} of {len(names):,} classes have no test sample, so no test metric covers them: {shown}; "
        "add data or raise dataset.test_fraction"
    ]
