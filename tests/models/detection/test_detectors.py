"""Faster R-CNN with every backbone, and region pooling on its own."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from dltrain.models.detection.cnn_roi import CNNRoI, grid
from dltrain.models.detection.faster_rcnn import Backbone, FasterRCNN, truth_of
from dltrain.types.boxes import COUNTED, CROWD, DIFFICULT, TRAINED

TARGETS = torch.tensor(
    [[[10.0, 10, 42, 44, 3], [20, 30, 60, 60, 1]], [[0, 0, 0, 0, -1], [0, 0, 0, 0, -1]]]
)
FEW: dict[str, Any] = {
    "pre_nms": 20,
    "post_nms": 20,
    "rpn_batch": 32,
    "box_batch": 16,
    "roi_size": 3,
    "head_size": 16,
}
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", [b for b in get_args(Backbone) if b != "resnet50"])
def test_every_backbone_gives_losses_with_a_gradient_in_every_parameter_and_detections(
    backbone: Backbone, channels: int
) -> None:
    """This includes an image without an object."""
    torch.manual_seed(0)
    model = FasterRCNN(channels, (64, 96), 5, backbone, **FEW)
    images = torch.randn(2, channels, 64, 96)
    losses, nothing = model(images, TARGETS)
    assert losses.keys() == LOSSES
    assert nothing.shape == (2, 0, 6)
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    assert [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.isfinite().all()
    ] == []
    model.eval()
    with torch.no_grad():
        none, found = model(images)
    assert none == {}
    assert found.shape == (2, 100, 6)
    real = found[found[..., 5] >= 0]
    assert ((real[:, 5] >= 0) & (real[:, 5] < 5)).all()
    assert ((real[:, 4] >= 0.05) & (real[:, 4] <= 1)).all()
    assert (real[:, 2] >= real[:, 0]).all()
    assert (real[:, :4] <= torch.tensor([96.0, 64, 96, 64])).all()


def test_losses_in_evaluation_leave_the_network_as_it_is() -> None:
    """Batch norm's statistics stay, and the detections are those without targets."""
    torch.manual_seed(0)
    model = FasterRCNN(1, (64, 64), 5, **FEW).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        losses, found = model(images, TARGETS)
        alone = model(images)[1]
    assert losses.keys() == LOSSES
    assert torch.equal(found, alone)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_a_step_in_half_precision_is_finite_and_boxes_keep_full_precision() -> None:
    torch.manual_seed(0)
    model = FasterRCNN(1, (64, 64), 5, **FEW)
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = model(torch.randn(2, 1, 64, 64), TARGETS)
        total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert total.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anchor_sizes": ((16,), (32,))}, r"anchor_sizes: expected 4 lists of the same length"),
        (
            {"anchor_sizes": ((16,), (32,), (64,), (128, 256))},
            r"anchor_sizes: expected 4 lists of the same length",
        ),
        ({"channels": (8, 8, 8)}, r"channels=\[8, 8, 8\]: the small backbone needs at least 4"),
        ({"channels": (8,) * 6}, r"64x64 are too few, use at least 128 per side"),
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FasterRCNN(1, (64, 64), 5, **settings)


def test_a_hand_written_grid_of_regions() -> None:
    quarters = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    assert grid((1, 2)) == [[0, 0, 1, 1], *quarters]
    assert len(grid((1, 2, 3))) == 14


def test_max_pooling_of_regions_is_the_maximum_of_each() -> None:
    """A map of 4 x 6 and its quarters of 2 x 3 give their maxima."""
    model = CNNRoI(
        1, (8, 12), 3, channels=(4,), regions=(1, 2), region_pooling="max", region_size=1
    )
    maps = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    pooled = model.pooled(maps)
    assert pooled.shape == (1, 5, 2, 1, 1)
    expected = [maps[0, :, :, :].amax((1, 2))]
    expected += [
        maps[0, :, y : y + 3, x : x + 4].amax((1, 2)) for y in (0, 2) for x in (0, 3)
    ]  # borders belong to both
    found = pooled[0, :, :, 0, 0]
    assert torch.equal(found[0], expected[0])
    boxes = [model.shares * torch.tensor([6.0, 4, 6, 4])]
    assert torch.equal(pooled[0], roi_pool(maps, boxes, 1))
    assert (found[1] < found[4]).all()
    assert torch.equal(found[4], expected[4])


def test_aligned_pooling_of_the_whole_map_into_its_own_pixels_gives_the_map() -> None:
    """With one point in the center of each part, and parts of a pixel, nothing is interpolated."""
    model = CNNRoI(1, (8, 8), 3, channels=(4,), regions=(1,), region_size=4, samples=1)
    maps = torch.randn(2, 4, 4, 4)
    assert torch.allclose(model.pooled(maps)[:, 0], maps, atol=1e-6)
    boxes = [model.shares * 4.0] * 2
    assert torch.equal(
        model.pooled(maps)[:, 0], roi_align(maps, boxes, 4, sampling_ratio=1, aligned=True)
    )


@pytest.mark.parametrize("pooling", ["align", "max"])
def test_a_trained_region_classifier_takes_images_of_any_size(pooling: Any) -> None:
    model = CNNRoI(1, (16, 16), 3, region_pooling=pooling).eval()
    logits: Tensor = model(torch.randn(2, 1, 40, 24))
    assert logits.shape == (2, 3)
    assert F.cross_entropy(logits, torch.tensor([0, 2])).isfinite()


def test_regions_that_pool_nothing_and_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r'model.regions=\[\]" has no region'):
        CNNRoI(1, (8, 8), 3, regions=())
    with pytest.raises(
        ValueError, match=r"8x8 pixels are too few; give model.channels fewer entries"
    ):
        CNNRoI(1, (8, 8), 3, channels=(4, 4, 4, 4))


@pytest.mark.parametrize("flag", [DIFFICULT, CROWD])
def test_an_object_that_does_not_count_is_neither_object_nor_background(flag: float) -> None:
    """No anchor and no proposal in it is drawn; one that is of an object which counts is drawn as
    without it.
    """
    region, other = [8.0, 8, 40, 40], [44.0, 4, 60, 20]
    with_both = truth_of(
        torch.tensor([[*region, 1, flag], [*other, 2, COUNTED], [0, 0, 0, 0, -1, 0]])
    )
    assert (with_both["boxes"].tolist(), with_both["labels"].tolist()) == ([other], [3])
    assert with_both["uncounted"].tolist() == [region]
    model = FasterRCNN(3, (64, 64), 5, **FEW)
    anchors = torch.tensor(
        [[8.0, 8, 40, 40], [10, 10, 20, 20], [0, 40, 16, 60], [44, 4, 60, 20], [30, 30, 60, 60]]
    )
    trained = truth_of(
        torch.tensor([[*region, 1, TRAINED], [*other, 2, COUNTED], [0, 0, 0, 0, -1, 0]])
    )
    assert (trained["labels"].tolist(), len(trained["uncounted"])) == ([2, 3], 0)
    labels, _ = model.network.rpn.assign_targets_to_anchors([anchors], [with_both])
    assert labels[0].tolist() == [-1, -1, 0, 1, 0]
    kept = model.without_ignored(anchors, with_both)
    assert kept.tolist() == anchors[2:].tolist()
    inner = truth_of(torch.tensor([[*region, 1, flag], [10.0, 10, 20, 20, 2, COUNTED]]))
    assert model.network.rpn.assign_targets_to_anchors([anchors], [inner])[0][0].tolist() == [
        -1,
        1,
        0,
        0,
        0,
    ]
    assert anchors[1].tolist() in model.without_ignored(anchors, inner).tolist()


def test_losses_are_finite_where_no_object_counts_and_the_same_without_a_flag() -> None:
    """This includes an object that does not count and fills the image."""
    model = FasterRCNN(3, (64, 96), 5, **FEW)
    images = torch.randn(2, 3, 64, 96)
    whole = torch.tensor([[[0.0, 0, 96, 64, 3, DIFFICULT]], [[0.0, 0, 96, 64, 3, CROWD]]])
    assert torch.stack(list(model(images, whole)[0].values())).isfinite().all()
    flagged = F.pad(TARGETS, (0, 1))
    losses = []
    for targets in (TARGETS, flagged):
        torch.manual_seed(0)
        losses.append(FasterRCNN(3, (64, 96), 5, **FEW)(images, targets)[0])
    assert losses[0] == losses[1]
