"""The samples of a split as lint compares them: a name for the content, and a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dltrain.types import PAD, Spec

THUMB_PIXELS = 32  # height and width of the pictures that are compared, at most
DIGEST_BYTES = 16


@dataclass(frozen=True)
class SplitSamples:
    """The samples of one split, in the stored order.

    Attributes:
        part: train, val or test.
        digests: The name of the content of each sample: equal content, equal name.
        targets: Class numbers (N,) or numbers (N, T); None where a sample has another target.
        features: The columns (N, F) of a table, with numbers for categories; the mean and the
            standard deviation of each channel (N, 2C) of images; the length (N, 1) of texts.
        thumbs: Small gray pictures (N, P) of images, of mean 0 and norm 1; None for other data.
        name: Returns the name of a sample, such as its file.
    """

    part: str
    digests: list[bytes]
    targets: Tensor | None
    features: Tensor
    thumbs: Tensor | None
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.digests)


def collected(
    part: str,
    batches: Iterator[Any],
    spec: Spec,
    name: Callable[[int], str],
    columns: Mapping[str, slice],
) -> SplitSamples:
    """Return the samples of the batches (inputs (B, ...), targets (B, ...)) of a split.

    `columns` are the inputs that each column of a table became.
    """
    digests: list[bytes] = []
    targets: list[Tensor] = []
    features: list[Tensor] = []
    thumbs: list[Tensor] = []
    for inputs, wanted in batches:
        inputs = inputs.cpu()
        digests += contents(inputs, is_text=bool(spec.vocab_size))
        targets.append(in_unit_of_data(wanted.cpu(), spec))
        features.append(features_of(inputs, spec, columns))
        if spec.is_image:
            thumbs.append(thumbs_of(inputs))
    if not digests:
        return SplitSamples(part, [], None, torch.zeros(0, 0), None, name)
    return SplitSamples(
        part,
        digests,
        torch.cat(targets),
        torch.cat(features),
        torch.cat(thumbs) if thumbs else None,
        name,
    )


def in_unit_of_data(targets: Tensor, spec: Spec) -> Tensor:
    """Return class numbers (B,) as they are, and standardized numbers (B, T) in their unit."""
    if not spec.target_std:
        return targets
    scale = torch.tensor(spec.target_std, dtype=torch.float64)
    return (targets * scale + torch.tensor(spec.target_mean, dtype=torch.float64)).float()


def contents(inputs: Tensor, is_text: bool) -> Iterator[bytes]:
    """Yield a name for the content of each input; padding of texts does not count."""
    for row in inputs.contiguous():
        content = row[row != PAD] if is_text else row
        yield hashlib.blake2b(content.numpy().tobytes(), digest_size=DIGEST_BYTES).digest()


def features_of(inputs: Tensor, spec: Spec, columns: Mapping[str, slice]) -> Tensor:
    """Return the numbers of each input (B, ...) whose distributions are compared."""
    if spec.vocab_size:
        return (inputs != PAD).sum(1, keepdim=True).float()
    if spec.is_image:
        values = inputs.float().flatten(2)
        return torch.cat([values.mean(2), values.std(2, correction=0)], dim=1)
    numbers = [column_values(inputs[:, places]) for places in columns.values()]
    return torch.stack(numbers, dim=1).float()


def column_values(inputs: Tensor) -> Tensor:
    """Return the values (B,) of a column: its input (B, 1), or the number of its category."""
    return inputs[:, 0] if inputs.shape[1] == 1 else inputs.argmax(1)


def thumbs_of(images: Tensor) -> Tensor:
    """Return small gray pictures (B, P) of images (B, C, H, W), each of mean 0 and norm 1."""
    gray = images.float().mean(1, keepdim=True)
    height, width = (min(THUMB_PIXELS, side) for side in gray.shape[2:])
    return normalized(F.adaptive_avg_pool2d(gray, (height, width)).flatten(1)).half()


def normalized(pictures: Tensor) -> Tensor:
    """Return pictures (B, P) of mean 0 and norm 1; those of one color become 0."""
    centered = pictures - pictures.mean(1, keepdim=True)
    norms = centered.norm(dim=1, keepdim=True)
    return torch.where(norms > 1e-3, centered / norms.clamp_min(1e-3), torch.zeros(()))
