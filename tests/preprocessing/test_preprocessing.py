"""Every preprocessing choice: what it does to a batch, what it draws from, and when."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.config.groups import groups, read_option
from dltrain.config.policy import locate
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.experiment.instantiate import instantiate
from dltrain.preprocessing.affine import Affine, rotation_maps, warp
from dltrain.preprocessing.alternating_flip import AlternatingFlip, random_halves
from dltrain.preprocessing.center_crop import CenterCrop
from dltrain.preprocessing.multi_scale import MultiScale
from dltrain.preprocessing.patches import Patches
from dltrain.preprocessing.random_crop import Padding, RandomCrop
from dltrain.preprocessing.random_erasing import RandomErasing
from dltrain.preprocessing.resize import Resize
from dltrain.preprocessing.rotation import Rotation
from dltrain.rng import keyed

OPTIONS = sorted(groups()["preprocessing"])


def chosen(name: str) -> Any:
    """Return the choice as its YAML file sets it."""
    return instantiate(read_option("preprocessing", name)[name], name, {}, [])


def images(count: int = 6, height: int = 32, width: int = 40, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, height, width, generator=keyed(1)) * 255


def apply(transform: Any, batch: Tensor, *key: int) -> Tensor:
    """Return the batch, changed by random numbers of `key`."""
    targets = torch.arange(len(batch))
    changed, same = transform(batch.clone(), targets.clone(), keyed(*key))
    assert torch.equal(same, targets)
    result: Tensor = changed
    return result


# All ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_shape_is_the_shape_of_changed_batches(name: str, channels: int) -> None:
    """Float batches of the shape that `shape` says, finite, within the stored unit; targets as they
    were.
    """
    transform, batch = chosen(name), images(channels=channels)
    changed = apply(transform, batch, 0)
    assert tuple(changed.shape) == (6, *transform.shape(tuple(batch.shape[1:])))
    assert changed.dtype == torch.float32
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 255.01
    with pytest.raises(ValueError, match="works on images"):
        transform.shape((7,))


@pytest.mark.parametrize("name", OPTIONS)
def test_random_changes_are_a_function_of_the_key(name: str) -> None:
    """The same key, the same result, whatever else is drawn; another key, another, for what is for
    training only.
    """
    transform, batch = chosen(name), images()
    first = apply(transform, batch, 3, 1)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(first, apply(transform, batch, 3, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, apply(transform, batch, 3, 2)) != transform.training_only


@pytest.mark.parametrize("name", [n for n in OPTIONS if chosen(n).training_only])
def test_each_image_is_changed_differently(name: str) -> None:
    """Equal images of one batch come out different; the shape stays, for evaluation sees the images
    without it.
    """
    transform = chosen(name)
    changed = apply(transform, images(1).expand(24, -1, -1, -1), 0)
    assert len({tuple(x.flatten()[:2000].tolist()) for x in changed}) >= 2
    assert transform.shape((3, 20, 30)) == (3, 20, 30)


@pytest.mark.parametrize("name", OPTIONS)
def test_evaluation_leaves_out_changes_for_training(name: str) -> None:
    """Validation and test batches stay, or are changed the same way in every epoch.

    Training batches differ.
    """
    transform = chosen(name)
    plain, data = (
        InMemory(Synthetic(3, 32, 32, 2, 40, 20), transforms=t, batch_size=8)
        for t in ((), (transform,))
    )
    for split in ("val", "test"):
        batches = [
            torch.cat([x for x, _ in getattr(d, split).epoch(e)])
            for d, e in ((plain, 0), (data, 0), (data, 1))
        ]
        assert torch.equal(batches[1], batches[2])
        if transform.training_only:
            assert torch.equal(batches[0], batches[1])
        else:
            assert tuple(batches[1].shape[1:]) == data.spec.input_shape
    order = [torch.cat([y for _, y in d.train.epoch(0)]) for d in (plain, data)]
    assert torch.equal(*order)


@pytest.mark.parametrize("name", OPTIONS)
def test_batches_are_changed_at_once(name: str) -> None:
    """A batch of 256 images takes as many operations as one of 128 with the same choices in it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.calls += 1
            return func(*args, **(kwargs or {}))

    transform, counts = chosen(name), []
    for size in (128, 256):
        with Count() as counter:
            apply(transform, images(size, 16, 20), 0)
        counts.append(counter.calls)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_those_of_the_file(name: str) -> None:
    node = read_option("preprocessing", name)[name]
    parameters = inspect.signature(locate(node["_target_"], [])).parameters
    given = {
        key: tuple(v) if isinstance(v, list) else v for key, v in node.items() if key != "_target_"
    }
    assert given == {key: parameter.default for key, parameter in parameters.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_command_line_accepts_each(name: str, dltrain: Callable[..., Any]) -> None:
    outcome = dltrain(
        f"preprocessing=[{name}]",
        "dataset=synthetic",
        "model=mlp",
        "debug=smoke",
        "callbacks=quiet",
    )
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["preprocessing=[patches]", "preprocessing.patches.size=5"],
            "do not tile images of 32x32",
        ),
        (
            ["preprocessing=[center_crop]", "preprocessing.center_crop.size=[8,40]"],
            "center_crop of 8x40",
        ),
        (
            ["preprocessing=[multi_scale]", "preprocessing.multi_scale.scale=[2,1]"],
            "from the smallest to the largest",
        ),
        (
            ["preprocessing=[affine]", "preprocessing.affine.scale=[2,1]"],
            "from the smallest to the largest",
        ),
        (
            ["preprocessing=[random_erasing]", "preprocessing.random_erasing.area=[1,0]"],
            "from the smallest",
        ),
        (["preprocessing=[random_erasing]", "preprocessing.random_erasing.fill=300"], "<= 255"),
        (
            [
                "preprocessing=[random_resized_crop]",
                "preprocessing.random_resized_crop.scale=[1,0.5]",
            ],
            "from the smallest",
        ),
        (
            [
                "preprocessing=[random_resized_crop]",
                "preprocessing.random_resized_crop.ratio=[2,1]",
            ],
            "from the smallest",
        ),
        (["preprocessing=[rand_augment]", "preprocessing.rand_augment.magnitude=31"], "<= 30"),
        (["preprocessing=[color_jitter]", "preprocessing.color_jitter.hue=0.6"], "<= 0.5"),
        (
            ["preprocessing=[trivial_augment]", "dataset.source.channels=2"],
            "gray and color images, not on 2 channels",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_impossible_settings_are_refused(
    overrides: list[str], says: str, dltrain: Callable[..., Any]
) -> None:
    outcome = dltrain("check", "dataset=synthetic", *overrides)
    assert outcome.code == 2
    assert says in outcome.err


# Each ---------------------------------------------------------------------------------------------


def test_flip_reverses_an_axis() -> None:
    from dltrain.preprocessing.flip import Flip

    batch = images()
    assert torch.equal(apply(Flip(p=1, vertical=0), batch, 0), batch.flip(3))
    assert torch.equal(apply(Flip(p=0, vertical=1), batch, 0), batch.flip(2))


def test_resize_keeps_means_and_stretches() -> None:
    """A constant stays; halves are means of blocks, but for the smoothing's reach; a ramp stays one
    when enlarged.
    """
    assert torch.allclose(
        apply(Resize((7, 50)), torch.full((2, 3, 32, 40), 7.0), 0), torch.tensor(7.0)
    )
    batch = images()
    assert torch.allclose(apply(Resize((16, 20)), batch, 0).mean(), batch.mean(), rtol=0.01)
    ramp = torch.arange(8.0).expand(1, 1, 4, 8)
    assert torch.allclose(
        apply(Resize((4, 16)), ramp, 0)[0, 0, 0, 1:-1], torch.arange(14) / 2 + 0.25
    )
    assert Resize(9).shape((1, 4, 5)) == (1, 9, 9)


def test_center_crop_keeps_the_center() -> None:
    batch = images(height=10, width=12)
    assert torch.equal(apply(CenterCrop((4, 8)), batch, 0), batch[:, :, 3:7, 2:10])
    assert torch.equal(apply(CenterCrop(10), batch, 0), batch[:, :, :, 1:11])


def windows(batch: Tensor, padding: int, mode: str = "constant") -> Iterator[Tensor]:
    """Return every shift of `batch` by up to `padding`."""
    height, width = batch.shape[2:]
    padded = torch.nn.functional.pad(batch, [padding] * 4, mode)
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            yield padded[:, :, top : top + height, left : left + width]


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_random_crop_is_a_shifted_window(mode: Padding) -> None:
    """Each image is one of the shifts of itself, and all shifts come."""
    image = images(1, 5, 7)
    changed = apply(RandomCrop(2, mode), image.expand(400, -1, -1, -1), 0)
    counts = [
        int((changed == window).flatten(1).all(dim=1).sum()) for window in windows(image, 2, mode)
    ]
    assert sum(counts) == 400
    assert min(counts) > 0


def test_random_crop_refuses_to_reflect_more_than_the_image_has() -> None:
    assert RandomCrop(4).shape((1, 4, 9)) == (1, 4, 9)
    with pytest.raises(
        ValueError, match="padding=4 by reflection needs images of more than 4 pixels a side"
    ):
        RandomCrop(4, "reflect").shape((1, 4, 9))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_by_right_angles(degrees: int) -> None:
    """Counter-clockwise, as torch.rot90 of square images."""
    batch = images(4, 9, 9)
    angle = torch.full((4,), degrees * torch.pi / 180)
    expected = torch.rot90(batch, degrees // 90, (2, 3))
    assert torch.allclose(
        warp(batch, rotation_maps(angle, torch.zeros(4)), torch.zeros(4, 2)), expected, atol=0.01
    )


def test_rotation_keeps_pixels_square() -> None:
    """A square at the center of a wide image, rotated by a right angle, stays as it is."""
    batch = torch.zeros(1, 1, 20, 40)
    batch[:, :, 6:14, 16:24] = 200
    angle = torch.tensor([torch.pi / 2])
    assert torch.allclose(
        warp(batch, rotation_maps(angle, torch.zeros(1)), torch.zeros(1, 2)), batch, atol=0.01
    )


def test_rotation_stays_within_its_degrees() -> None:
    """With 0 nothing changes; a pixel on the axis leaves it by no more than the angle allows, to
    both sides.
    """
    batch = images()
    assert torch.allclose(apply(Rotation(0), batch, 0), batch, atol=0.01)
    batch = torch.zeros(300, 1, 41, 41)
    batch[:, :, 20, 40] = 1  # 20 pixels to the right of the center
    changed = apply(Rotation(30), batch, 0)
    rows = (changed.sum(dim=3) * (torch.arange(41) - 20)).sum(dim=2) / changed.sum(dim=(2, 3))
    angles = torch.asin((rows / 20).clamp(-1, 1)) * 180 / torch.pi
    assert -31 < float(angles.min()) < -25
    assert 25 < float(angles.max()) < 31


def test_affine_changes_a_fraction_of_the_images() -> None:
    """It changes them as it would change all."""
    batch = images(400, 16, 16, 1)
    some, every = apply(Affine(share=0.25), batch, 1), apply(Affine(), batch, 1)
    changed = (some != batch).flatten(1).any(dim=1)
    assert 0.18 < float(changed.float().mean()) < 0.32
    assert torch.equal(some[changed], every[changed])
    assert torch.equal(apply(Affine(share=0), batch, 1), batch)


def test_affine_shifts_scales_and_shears() -> None:
    """Each part alone, on pixels that can be followed."""
    batch = torch.zeros(200, 1, 41, 41)
    batch[:, :, 20, 20] = 1
    still = apply(Affine(0, 0, (1, 1), 0), batch, 0)
    assert torch.allclose(still, batch, atol=1e-4)
    shifted = apply(Affine(0, 0.25, (1, 1), 0), batch, 0)
    places = torch.stack(
        [(shifted.sum(dim=d) * torch.arange(41)).sum(dim=2).squeeze(1) - 20 for d in (2, 3)]
    )
    assert 9 < float(places.max()) <= 10.26
    assert -10.26 <= float(places.min()) < -9
    assert abs(float(torch.corrcoef(places)[0, 1])) < 0.2
    block = torch.zeros(1, 1, 41, 41)
    block[:, :, 15:26, 15:26] = 1
    assert float(apply(Affine(0, 0, (2, 2), 0), block, 0).sum()) == pytest.approx(4 * 121, rel=0.02)
    sheared = warp(
        block, rotation_maps(torch.zeros(1), torch.ones(1)), torch.zeros(1, 2)
    )  # a pixel to the side a row
    assert torch.allclose(sheared[0, 0, 20], block[0, 0, 20], atol=1e-3)
    assert torch.allclose(sheared[0, 0, 24], block[0, 0, 24].roll(4), atol=1e-3)


def test_multi_scale_enlarges_a_part_of_the_image() -> None:
    """At 1 the image; at 2 a quarter of it, enlarged, anywhere and never from outside."""
    batch = images()
    assert torch.allclose(apply(MultiScale((1, 1)), batch, 0), batch, atol=0.01)
    ramp = torch.arange(40.0).expand(300, 1, 32, 40) + 100
    changed = apply(MultiScale((2, 2)), ramp, 0)
    steps = changed.diff(dim=3)[:, :, :, 2:-2]
    assert torch.allclose(steps, torch.tensor(0.5), atol=1e-3)
    left = changed[:, 0, 0, 0]
    assert 100 <= float(left.min()) < 101.5
    assert 118 < float(left.max()) <= 120


@pytest.mark.parametrize("fill", [0.0, 255.0, "random"])
def test_random_erasing_erases_a_box(fill: float | str) -> None:
    """With probability p a box of the area and ratio of the settings is replaced.

    The rest stays.
    """
    batch = images(400, 30, 50).clamp(1, 254)
    changed = apply(RandomErasing(p=0.75, area=(0.1, 0.2), ratio=0.5, fill=fill), batch, 0)
    touched = (changed != batch).any(dim=1)  # (B, H, W)
    erased = touched.flatten(1).any(dim=1)
    assert 0.68 < float(erased.float().mean()) < 0.82
    heights, widths = (touched.any(dim=d).sum(dim=1)[erased] for d in (2, 1))
    filled = touched.flatten(1).sum(dim=1)[erased]
    assert torch.equal(filled, heights * widths), "a box is full"
    assert 0.08 < float((filled / 1500).min()) < 0.12 < 0.18 < float((filled / 1500).max()) < 0.22
    ratios = heights / widths
    assert 0.4 < float(ratios.min()) < 0.7 < 1.5 < float(ratios.max()) < 2.4
    where = touched[erased].float().mean(dim=0)
    assert all(float(where.amax(dim=d).min()) > 0 for d in (0, 1)), (
        "it reaches every row and column"
    )
    if fill == "random":
        assert changed[touched.unsqueeze(1).expand_as(changed)].std() == pytest.approx(
            255 / 12**0.5, rel=0.05
        )
    else:
        assert set(changed[touched.unsqueeze(1).expand_as(changed)].tolist()) == {fill}


def test_patches_can_be_put_back() -> None:
    """A channel of the grid is one place within its patches; nothing is lost, and statistics follow
    their channel.
    """
    batch = images(height=8, width=12)
    changed = apply(Patches(4), batch, 0)
    assert torch.equal(torch.nn.functional.pixel_shuffle(changed, 4), batch)
    assert torch.equal(changed[:, 16:32, 1, 2].reshape(-1, 4, 4), batch[:, 1, 4:8, 8:12])
    data = InMemory(Synthetic(3, 32, 32, 2, 20, 20), transforms=[Patches(4)])
    assert data.spec.input_shape == (48, 8, 8)
    x, _ = next(data.test.epoch(0))
    stored = data.stored["test"][0].float()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.spec.mean, data.spec.std))
    assert torch.allclose(torch.nn.functional.pixel_shuffle(x * std + mean, 4), stored, atol=1e-2)


# Alternating flips --------------------------------------------------------------------------------


def flipped_rows(epoch: int, batch_size: int) -> list[bool]:
    """Tell which stored images an epoch of training shows flipped, in the order of the rows."""
    source = Synthetic(3, 8, 8, 2, 40, 20)
    data, plain = (
        InMemory(source, transforms=transforms, batch_size=batch_size, seed=5)
        for transforms in ((AlternatingFlip(),), ())
    )
    order = data.train.order(epoch).tolist()
    shown, stored = (torch.cat([x for x, _ in d.train.epoch(epoch)]) for d in (data, plain))
    flips = [bool(torch.equal(a, b.flip(2))) for a, b in zip(shown, stored, strict=True)]
    assert all(torch.equal(a, b) or f for a, b, f in zip(shown, stored, flips, strict=True))
    return [flip for _, flip in sorted(zip(order, flips, strict=True))]


def test_alternating_flips_alternate_for_each_image() -> None:
    """Epoch 1 flips what epoch 0 did not, epoch 2 what it did, in batches of any size."""
    first = flipped_rows(0, 8)
    assert 0.2 < sum(first) / len(first) < 0.8
    assert flipped_rows(1, 8) == [not flip for flip in first]
    assert flipped_rows(2, 5) == first


def test_the_halves_of_alternating_flips_are_random() -> None:
    """Half of the rows, other rows with another seed, and no pattern between neighbors."""
    rows = torch.arange(40000)
    for seed in (0, 1, 2**63 - 1):
        half = random_halves(rows, seed)
        assert abs(float(half.float().mean()) - 0.5) < 0.01
        assert abs(float((half[1:] ^ half[:-1]).float().mean()) - 0.5) < 0.01
        assert torch.equal(half[7:9], random_halves(rows[7:9], seed))
    differs = random_halves(rows, 0) ^ random_halves(rows, 1)
    assert abs(float(differs.float().mean()) - 0.5) < 0.01
