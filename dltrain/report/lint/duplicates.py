"""Samples that are equal: within a split, across splits, and with different targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from dltrain.report.lint.findings import Example, Finding
from dltrain.report.lint.samples import SplitSamples

ACROSS = (
    "their scores say nothing about new data; remove them, or keep copies on one side of the split "
    "(dataset.group)"
)


@dataclass(frozen=True)
class SamplePlace:
    """The position of a sample in a split."""

    split: SplitSamples
    position: int

    @property
    def name(self) -> str:
        """The name of the sample."""
        return self.split.name(self.position)

    def described(self) -> str:
        """Return the split and the name of the sample."""
        return f"{self.split.part}: {self.name}"


def groups_of_equals(splits: Sequence[SplitSamples]) -> list[list[SamplePlace]]:
    """Return the samples of equal content, in groups of two and more."""
    first: dict[bytes, SamplePlace] = {}
    groups: dict[bytes, list[SamplePlace]] = {}
    for split in splits:
        for position, digest in enumerate(split.digests):
            place = SamplePlace(split, position)
            if digest in groups:
                groups[digest].append(place)
            elif digest in first:
                groups[digest] = [first[digest], place]
            else:
                first[digest] = place
    return list(groups.values())


def duplicates(
    splits: Sequence[SplitSamples], noun: str, class_names: Sequence[str]
) -> list[Finding]:
    """Return findings on equal samples; `noun` names several samples, such as images."""
    groups = groups_of_equals(splits)
    return [
        *across_splits(groups, noun),
        *within_splits(groups, noun),
        *conflicts(groups, noun, class_names),
    ]


def across_splits(groups: Iterable[Sequence[SamplePlace]], noun: str) -> Iterator[Finding]:
    """Yield a finding for each pair of splits that share samples."""
    shared: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for group in groups:
        firsts: dict[str, SamplePlace] = {}
        for place in group:
            firsts.setdefault(place.split.part, place)
        for place in group:
            for part in earlier_parts(place.split.part, firsts):
                example = Example(place.name, firsts[part].name)
                shared[place.split.part, part].append(example)
    for (part, other), examples in shared.items():
        message = f"{len(examples):,} {noun} of {part} are in {other} too: {ACROSS}"
        yield Finding(f"in {part} and {other}", message, examples)


def earlier_parts(part: str, parts: Iterable[str]) -> Iterator[str]:
    """Yield the parts that come before a part: train before val, and both before test."""
    order = ("train", "val", "test")
    for other in parts:
        if order.index(other) < order.index(part):
            yield other


def within_splits(groups: Iterable[Sequence[SamplePlace]], noun: str) -> Iterator[Finding]:
    """Yield a finding for each split that has samples more than once."""
    copies: dict[str, list[Example]] = defaultdict(list)
    for group in groups:
        firsts: dict[str, SamplePlace] = {}
        for place in group:
            first = firsts.setdefault(place.split.part, place)
            if first is not place:
                copies[place.split.part].append(Example(place.name, first.name))
    for part, examples in copies.items():
        message = f"{len(examples):,} {noun} of {part} are copies of others of {part}"
        yield Finding(f"copies in {part}", message, examples)


def conflicts(
    groups: Iterable[Sequence[SamplePlace]], noun: str, class_names: Sequence[str]
) -> Iterator[Finding]:
    """Yield a finding on equal samples with different targets."""
    examples = []
    for group in groups:
        first = group[0]
        for place in group[1:]:
            if not same_target(first, place):
                own, other = (target_text(one, class_names) for one in (place, first))
                detail = f"{own} and {other}"
                examples.append(Example(place.described(), first.described(), detail))
    if examples:
        message = (
            f"{len(examples):,} {noun} equal another one and have a different target: "
            "correct one of the two"
        )
        yield Finding("conflicting targets", message, examples)


def same_target(one: SamplePlace, other: SamplePlace) -> bool:
    """Return whether two samples have the same target."""
    assert one.split.targets is not None
    assert other.split.targets is not None
    return torch.equal(one.split.targets[one.position], other.split.targets[other.position])


def target_text(place: SamplePlace, class_names: Sequence[str]) -> str:
    """Return the class of a sample, or its numbers."""
    assert place.split.targets is not None
    target = place.split.targets[place.position]
    if class_names:
        return class_names[int(target)]
    return ", ".join(f"{value:g}" for value in target.flatten().tolist())
