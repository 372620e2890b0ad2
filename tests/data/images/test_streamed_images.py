"""Images in memory and streamed: the same batches and statistics, the kept survey, and failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_pictures import data, everything, lay, picture

from dltrain.data.images.decode import read_image
from dltrain.errors import InputError
from dltrain.preprocessing.color_jitter import ColorJitter
from dltrain.preprocessing.cutout import Cutout
from dltrain.preprocessing.flip import Flip
from dltrain.preprocessing.rand_augment import RandAugment
from dltrain.preprocessing.random_resized_crop import RandomResizedCrop
from dltrain.preprocessing.trivial_augment import TrivialAugment
from dltrain.regularization.mixup import Mixup

AUGMENTED = (
    RandomResizedCrop(),
    ColorJitter(),
    RandAugment(),
    TrivialAugment(),
    Cutout(4),
    Mixup(),
)


@pytest.mark.parametrize("scaling", ["standardize", "unit"])
@pytest.mark.parametrize(
    "transforms", [(), (Flip(),), AUGMENTED], ids=["plain", "flip", "augmented"]
)
@pytest.mark.parametrize("val", [True, False])
def test_streamed_batches_equal_those_in_memory(
    scaling: Any, transforms: tuple[Any, ...], val: bool
) -> None:
    """They are equal in every split and epoch, from any start, for any number of workers."""
    lay(Path("pets/train"), count=30)
    if val:
        lay(Path("pets/val"), count=4)
    more: dict[str, Any] = {
        "batch_size": 7,
        "scaling": scaling,
        "transforms": transforms,
        "seed": 3,
        "eval_batch_size": 5,
        "balance": "sampler" if val else "none",
    }
    held = data("pets", memory=True, **more)
    parts = [
        (split, *part) for split in ("train", "val", "test") for part in ((0, 0), (1, 0), (1, 2))
    ]
    expected = {part: list(getattr(held, part[0]).epoch(*part[1:])) for part in parts}
    for workers in (0, 3):
        streamed = data("pets", memory=False, workers=workers, **more)
        for split in ("train", "val", "test"):
            ours, theirs = getattr(streamed, split), getattr(held, split)
            assert (ours.samples, len(ours), ours.batch_size) == (
                theirs.samples,
                len(theirs),
                theirs.batch_size,
            )
        for split, epoch, start in parts:
            pairs = list(
                zip(
                    getattr(streamed, split).epoch(epoch, start),
                    expected[split, epoch, start],
                    strict=True,
                )
            )
            assert len(pairs) == max(0, len(getattr(streamed, split)) - start)
            for (x, y), (a, b) in pairs:
                assert torch.allclose(x, a, rtol=0, atol=1e-6)
                assert torch.equal(y, b)
        assert streamed.description()["mean"] == pytest.approx(held.description()["mean"], abs=1e-9)
        assert streamed.description()["std"] == pytest.approx(held.description()["std"], abs=1e-9)


def test_statistics_are_of_the_training_samples_alone() -> None:
    """A validation or test set of another brightness does not change them."""
    lay(Path("pets/train"))
    for split in ("val", "test"):
        for name in ("cat", "dog"):
            (folder := Path("pets", split, name)).mkdir(parents=True)
            Image.new("RGB", (12, 8), "white").save(folder / "x.png")
    expected = torch.stack(
        [read_image(p, (3, 8, 12)) for p in sorted(Path("pets/train").rglob("*.png"))]
    ).double()
    for memory in (True, False):
        made = data("pets", memory=memory)
        inputs, _ = everything(made.train)
        assert made.spec.mean == pytest.approx(expected.mean(dim=(0, 2, 3)).tolist())
        assert made.spec.std == pytest.approx(expected.std(dim=(0, 2, 3), unbiased=False).tolist())
        assert torch.allclose(inputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)


def test_the_survey_of_a_folder_is_kept_until_a_file_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second run reads the training images once less; another content, size or time is looked at
    again.
    """
    from dltrain.data.images import streamed

    lay(Path("pets"), count=6)
    looked = []
    measured = streamed.measured
    monkeypatch.setattr(streamed, "measured", lambda *a: looked.append(1) or measured(*a))
    first = data("pets", memory=False).train
    again = data("pets", memory=False).train
    assert len(looked) == 1
    assert torch.equal(everything(first)[0], everything(again)[0])
    assert [path.suffix for path in Path("data/.dltrain").iterdir()] == [".npy"]
    _ = data("pets", memory=False, image_size=4).train
    assert len(looked) == 2
    picture(seed=77).save("pets/cat/000.png")
    _ = data("pets", memory=False).train
    assert len(looked) == 3


def test_a_data_root_that_cannot_be_written_does_no_harm() -> None:
    lay(Path("pets"))
    Path("data").write_text("in the way")
    assert len(everything(data(Path("pets").resolve(), memory=False).train)[0]) == 14


def test_memory_auto_uses_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the free memory may be taken."""
    from dltrain.data.images.listed import listed_images

    lay(Path("pets"))
    assert listed_images.free_memory() > 2**20
    needed = 20 * (3 * 8 * 12 + 8)
    for free, kept in ((2 * needed, True), (2 * needed - 2, False)):
        monkeypatch.setattr(listed_images, "free_memory", lambda free=free: free)
        made = data("pets")
        assert made.is_streamed != kept
        assert made.size_in_bytes() == (needed if kept else 5 * 64 * (3 * 8 * 12 + 8))


def test_an_epoch_that_is_left_early_leaves_no_thread() -> None:
    import threading

    lay(Path("pets"), count=40)
    split = data("pets", memory=False, batch_size=2).train
    before = threading.active_count()
    batches = split.epoch(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_file_that_vanishes_is_named() -> None:
    lay(Path("pets"))
    split = data("pets", memory=False).train
    (
        Path("pets/cat/000.png").unlink(),
        Path("pets/cat/001.png").unlink(),
        Path("pets/cat/002.png").unlink(),
    )
    with pytest.raises(
        InputError, match=r"00\d.png cannot be read as an image: .*could be read before"
    ):
        everything(split)
