"""Images that are nearly equal: saved again, scaled, or a little brighter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dltrain.report.lint.duplicates import SamplePlace
from dltrain.report.lint.findings import Example, Finding
from dltrain.report.lint.samples import SplitSamples, normalized

MAX_IMAGES = 100_000  # that are compared: the time grows with the square
SIMILARITY = 0.995  # the correlation of two small gray pictures from which they are nearly equal
COARSE_VALUES = 64  # of the pictures that are compared first
COARSE_SIMILARITY = 0.99
BLOCK = 1024  # images
MAX_CANDIDATES = 2**16  # pairs that are compared at a time


def near_duplicates(splits: Sequence[SplitSamples]) -> list[Finding]:
    """Return a finding on pairs of images that are nearly, but not exactly, equal.

    Two images are if their gray pictures of at most 32 x 32 pixels have a correlation of
    `SIMILARITY`, which does not see brightness and contrast.
    """
    with_images = [split for split in splits if split.thumbs is not None]
    places = [SamplePlace(split, i) for split in with_images for i in range(len(split))]
    if not 1 < len(places) <= MAX_IMAGES:
        return []
    thumbs = torch.cat([split.thumbs for split in with_images if split.thumbs is not None])
    examples = []
    across = 0
    for one, other, similarity in similar_pairs(thumbs):
        first, second = places[one], places[other]
        if first.split.digests[first.position] == second.split.digests[second.position]:
            continue
        across += first.split.part != second.split.part
        detail = f"correlation {similarity:.4f}"
        examples.append(Example(second.described(), first.described(), detail))
    if not examples:
        return []
    message = (
        f"{len(examples):,} pairs of images are nearly equal, {across:,} of them in two splits: "
        "look at them, and keep what belongs together on one side of the split (dataset.group)"
    )
    return [Finding("nearly equal", message, examples)]


def similar_pairs(thumbs: Tensor) -> Iterator[tuple[int, int, float]]:
    """Yield the rows of pairs of similar pictures (N, P), and their correlation.

    Pictures whose coordinate on the first principal axis differs by more than similar ones can
    differ are not compared.
    """
    coarse = coarse_pictures(thumbs)
    is_plain = coarse.norm(dim=1) < 0.5  # of one color: similar to every other such picture
    rows = (~is_plain).nonzero().squeeze(1)
    coarse = coarse[rows]
    if len(rows) < 2:
        return
    along = coarse @ first_axis(coarse)
    order = along.argsort()
    along, coarse, rows = along[order], coarse[order], rows[order]
    reach = (2 * (1 - COARSE_SIMILARITY)) ** 0.5
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        end = int(torch.searchsorted(along, along[stop - 1] + reach))
        similar = (coarse[start:stop] @ coarse[start:end].T).triu(1) > COARSE_SIMILARITY
        candidates = rows[start + similar.nonzero()].sort(1).values  # (M, 2)
        for pairs in candidates.split(MAX_CANDIDATES):
            yield from confirmed(thumbs, pairs)


def confirmed(thumbs: Tensor, pairs: Tensor) -> Iterator[tuple[int, int, float]]:
    """Yield those of some pairs of rows (M, 2) whose pictures are similar, with the correlation."""
    similarities = (thumbs[pairs[:, 0]].float() * thumbs[pairs[:, 1]].float()).sum(1)
    chosen = similarities > SIMILARITY
    pairs_found = zip(pairs[chosen].tolist(), similarities[chosen].tolist(), strict=True)
    for (one, other), similarity in pairs_found:
        yield one, other, similarity


def coarse_pictures(thumbs: Tensor) -> Tensor:
    """Return pictures (N, P') of mean 0 and norm 1 with fewer pixels."""
    count = min(COARSE_VALUES, thumbs.shape[1])
    return normalized(F.adaptive_avg_pool1d(thumbs.float().unsqueeze(1), count).squeeze(1))


def first_axis(pictures: Tensor) -> Tensor:
    """Return the direction (P,) along which pictures (N, P) differ most."""
    values, vectors = torch.linalg.eigh(pictures.T @ pictures)
    return vectors[:, values.argmax()]
