"""Augmentations against torchvision's functions on the same parameters, and what the random choices
draw.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from dltrain.preprocessing import augmentations, operations
from dltrain.preprocessing.augmentations import AUGMENTATIONS, Strongest, augment
from dltrain.preprocessing.color_jitter import ColorJitter
from dltrain.preprocessing.cutout import Cutout
from dltrain.preprocessing.rand_augment import RandAugment
from dltrain.preprocessing.random_resized_crop import RandomResizedCrop, resized_crops
from dltrain.preprocessing.trivial_augment import TrivialAugment
from dltrain.rng import keyed

FACTORS = torch.tensor([0.0, 0.1, 0.7, 1.0, 1.3, 1.9])
AMOUNTS = {  # of six images
    **dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), FACTORS),
    "hue": torch.tensor([-0.5, -0.3, 0.0, 0.1, 0.25, 0.5]),
    "posterize": torch.tensor([8, 7, 5, 4, 2, 0]),
    "solarize": torch.tensor([255.0, 200, 128, 100, 3, 0]),
}
STRONGEST = Strongest(0.3, (11.0, 9.0), 30.0, 0.9, 4)


def images(channels: int = 3, count: int = 6, height: int = 20, width: int = 24) -> Tensor:
    """Return whole numbers of 0..255.

    The last image has few values, the first has a constant channel.
    """
    found = torch.randint(256, (count, channels, height, width), generator=keyed(1)).float()
    found[-1] = found[-1] // 60 * 20 + 40
    found[0, 0] = 77
    return found


def as_reference(name: str, image: Tensor, amount: float | None) -> Tensor:
    """Return torchvision's function of one image, as bytes or as floats in 0..1."""
    functions: dict[str, Any] = {
        **{
            n: getattr(reference, f"adjust_{n}")
            for n in ("brightness", "contrast", "saturation", "sharpness", "hue")
        },
        **{n: getattr(reference, n) for n in ("posterize", "solarize", "autocontrast", "equalize")},
    }
    if name == "equalize":
        return functions[name](image.byte()).float()
    if name == "posterize":
        return functions[name](image.byte(), int(amount or 0)).float()
    if name == "solarize":
        return functions[name](image / 255, (amount or 0) / 255) * 255
    return functions[name](image / 255, *([] if amount is None else [amount])) * 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*AMOUNTS, "autocontrast", "equalize"])
def test_an_operation_is_torchvisions(name: str, channels: int) -> None:
    """On every image by its own amount; its input stays as it was."""
    batch = images(channels)
    before = batch.clone()
    amounts = AMOUNTS.get(name)
    found = getattr(operations, name)(batch, *([] if amounts is None else [amounts]))
    given = [None] * 6 if amounts is None else amounts.tolist()
    expected = torch.stack(
        [as_reference(name, image, a) for image, a in zip(batch, given, strict=True)]
    )
    assert torch.allclose(found, expected, atol=2e-3)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", AUGMENTATIONS[1:6])
def test_a_geometric_augmentation_is_torchvisions(name: str) -> None:
    """The amount and the direction agree; images need not be square."""
    batch, chosen = images(), torch.full((6,), AUGMENTATIONS.index(name))
    magnitudes, signs = (
        torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0, 0.3]),
        torch.tensor([1.0, 1, 1, -1, -1, -1]),
    )
    found = augment(batch, chosen, magnitudes, signs, STRONGEST)
    bilinear, expected = InterpolationMode.BILINEAR, []
    for image, m in zip(batch, (magnitudes * signs).tolist(), strict=True):
        shear = math.degrees(math.atan(m * STRONGEST.shear))
        by: dict[str, Any] = {
            "angle": 0.0,
            "translate": [0, 0],
            "scale": 1.0,
            "shear": [0.0, 0.0],
            "center": None,
        }
        by |= {
            "shear_x": {"shear": [shear, 0.0], "center": [0, 0]},
            "shear_y": {"shear": [0.0, shear], "center": [0, 0]},
            "translate_x": {"translate": [int(m * STRONGEST.translate[0]), 0]},
            "translate_y": {"translate": [0, int(m * STRONGEST.translate[1])]},
        }.get(name, {})
        if name == "rotate":
            expected.append(reference.rotate(image, m * STRONGEST.degrees, interpolation=bilinear))
        else:
            expected.append(reference.affine(image, interpolation=bilinear, **by))
    assert torch.allclose(found, torch.stack(expected), atol=0.05)
    assert not torch.allclose(found[1:], batch[1:], atol=10)


def test_images_of_a_batch_are_changed_independently() -> None:
    """A batch of all augmentations is what each gives alone."""
    count = len(AUGMENTATIONS)
    batch, chosen = images(count=count), torch.arange(count)
    magnitudes, signs = torch.linspace(0.2, 1, count), torch.tensor([1.0, -1] * (count // 2))
    together = augment(batch, chosen, magnitudes, signs, STRONGEST)
    for i in range(count):
        alone = augment(
            batch[i : i + 1], chosen[i : i + 1], magnitudes[i : i + 1], signs[i : i + 1], STRONGEST
        )
        assert torch.allclose(together[i], alone[0], atol=1e-4), AUGMENTATIONS[i]
    assert torch.equal(together[0], batch[0])


class Drawn:
    """A replacement of `augment` that keeps its arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
        self.asked: list[tuple[Tensor, Tensor, Tensor, Strongest]] = []
        monkeypatch.setattr(f"dltrain.preprocessing.{module}.augment", self)

    def __call__(self, batch: Tensor, *asked: Any) -> Tensor:
        self.asked.append(asked)  # type: ignore[arg-type]
        return batch


def test_rand_augment_draws_operations_and_sides_at_one_magnitude(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Uniformly, again for every image and each operation of it."""
    drawn, batch = Drawn(monkeypatch, "rand_augment"), images(count=1400, height=4, width=4)
    RandAugment(3, 12.0).change(batch, keyed(0))
    assert len(drawn.asked) == 3
    (chosen, magnitudes, signs, strongest), (other, *_), _ = drawn.asked
    assert magnitudes.tolist() == pytest.approx([0.4] * 1400)
    assert (strongest.degrees, strongest.translate[0]) == (30.0, pytest.approx(4 * 150 / 331))
    counts = Counter(chosen.tolist())
    assert len(counts) == 14
    assert 60 < min(counts.values()) < max(counts.values()) < 140
    assert signs.abs().eq(1).all()
    assert abs(float(signs.mean())) < 0.1
    assert 50 < int((chosen == other).sum()) < 150


def test_trivial_augment_draws_one_operation_and_any_magnitude(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, batch = Drawn(monkeypatch, "trivial_augment"), images(count=1400, height=4, width=4)
    TrivialAugment().change(batch, keyed(0))
    ((chosen, magnitudes, signs, strongest),) = drawn.asked
    assert len(Counter(chosen.tolist())) == 14
    assert len(magnitudes.unique()) == 31
    assert (float(magnitudes.min()), float(magnitudes.max())) == (0.0, 1.0)
    assert abs(float(magnitudes.mean()) - 0.5) < 0.04
    assert signs.unique().tolist() == [-1.0, 1.0]
    assert strongest == Strongest(0.99, (32.0, 32.0), 135.0, 0.99, 6)


def test_a_batch_takes_no_more_calls_than_there_are_augmentations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many images: one for each photometric augmentation, and one warp for all geometric
    ones.
    """
    calls: Counter[str] = Counter()

    def counted(name: str, original: Any) -> Any:
        def count(*args: Any) -> Any:
            calls[name] += 1
            return original(*args)

        return count

    for table in (augmentations.WITH_AMOUNT, augmentations.WITHOUT_AMOUNT):
        for name, original in table.items():
            monkeypatch.setitem(table, name, counted(name, original))
    monkeypatch.setattr(augmentations, "warp", counted("warp", augmentations.warp))
    TrivialAugment().change(images(count=300), keyed(0))
    assert set(calls.values()) == {1}
    assert calls.keys() == {*AUGMENTATIONS[6:], "warp"}


def test_a_resized_crop_is_torchvisions() -> None:
    batch = images(height=21, width=30)
    tops, lefts = torch.tensor([0.0, 0, 5, 20, 3, 10]), torch.tensor([0.0, 0, 7, 29, 1, 2])
    heights, widths = torch.tensor([21.0, 10, 16, 1, 8, 11]), torch.tensor([30.0, 15, 23, 1, 29, 5])
    found = resized_crops(batch, tops, lefts, heights, widths)
    for i in range(6):
        box = [int(v[i]) for v in (tops, lefts, heights, widths)]
        expected = reference.resized_crop(batch[i], *box, size=[21, 30], antialias=True)
        assert torch.allclose(found[i], expected, atol=0.02)


def test_boxes_have_the_area_and_ratio_of_the_settings() -> None:
    batch = images(count=2000, channels=1, height=60, width=80)
    tops, lefts, heights, widths = RandomResizedCrop((0.2, 0.6), (0.5, 2.0)).boxes(batch, keyed(0))
    areas, ratios = heights * widths / 4800, widths / heights
    assert 0.18 < float(areas.min()) < 0.23 < 0.55 < float(areas.max()) < 0.62
    assert 0.47 < float(ratios.min()) < 0.6 < 1.6 < float(ratios.max()) < 2.1
    for first, length, side in ((tops, heights, 60), (lefts, widths, 80)):
        assert float(first.min()) == 0
        assert float((first + length).max()) == side
    small = RandomResizedCrop((0.2, 0.2), (1.0, 1.0)).boxes(batch, keyed(0))[0]
    assert set(small.tolist()) == set(range(60 - 31 + 1)), "every place is as good"


def test_if_no_box_fits_it_is_the_largest_at_the_center() -> None:
    tops, lefts, heights, widths = RandomResizedCrop((1, 1), (1, 1)).boxes(
        images(height=10, width=30), keyed(0)
    )
    assert (tops.unique().tolist(), lefts.unique().tolist()) == ([0.0], [10.0])
    assert (heights.unique().tolist(), widths.unique().tolist()) == ([10.0], [10.0])


def test_color_jitter_draws_for_every_image_within_its_ranges() -> None:
    """Each alone, by what it does to a color that can be followed; 0 changes nothing."""
    batch = torch.tensor([100.0, 40, 40]).view(1, 3, 1, 1).expand(300, 3, 4, 4)
    zero: dict[str, Any] = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    assert torch.equal(ColorJitter(**zero).change(batch, keyed(0)), batch)
    brighter = ColorJitter(**{**zero, "brightness": 0.5}).change(batch, keyed(0))[:, 0, 0, 0] / 100
    assert 0.5 <= float(brighter.min()) < 0.52 < 1.48 < float(brighter.max()) <= 1.5
    turned = ColorJitter(**{**zero, "hue": 0.1}).change(batch, keyed(0))[:, :, 0, 0]
    assert torch.allclose(turned[:, 0], torch.tensor(100.0))
    assert 70 < float(turned[:, 1].max()) <= 76.01
    assert 70 < float(turned[:, 2].max()) <= 76.01
    flat = ColorJitter(**{**zero, "saturation": 1.0}).change(batch, keyed(0))[:, :, 0, 0]
    spread = (flat[:, 0] - flat[:, 1]) / 60
    assert float(spread.min()) < 0.05
    assert 1.9 < float(spread.max()) <= 2.01


def test_cutout_blanks_a_square_around_any_pixel() -> None:
    """The square has its size, cut at the border; everything else stays."""
    batch = images(count=600, height=12, width=14).clamp(min=1)
    changed = Cutout(6, 0.0).change(batch, keyed(0))
    gone = (changed == 0).all(dim=1)
    assert torch.equal((changed != batch).any(dim=1), gone)
    heights, widths = gone.any(dim=2).sum(dim=1), gone.any(dim=1).sum(dim=1)
    assert torch.equal(gone.flatten(1).sum(dim=1), heights * widths)
    assert (int(heights.max()), int(widths.max())) == (6, 6)
    assert (int(heights.min()), int(widths.min())) == (3, 3)
    whole = (heights == 6) & (widths == 6)
    assert float(whole.float().mean()) == pytest.approx(7 / 12 * 9 / 14, abs=0.06)
    assert gone.any(dim=0).all()
