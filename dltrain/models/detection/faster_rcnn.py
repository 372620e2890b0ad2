"""Faster R-CNN: a network that proposes regions of an image, and one that says what is in each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN as Network
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dltrain.types import PositiveFloat, PositiveInt, Probability
from dltrain.types.boxes import CLASS, FLAG, is_box, is_trained

Backbone: TypeAlias = Literal["small", "resnet18", "resnet50", "mobilenet_v3_large"]
Sizes: TypeAlias = tuple[tuple[int, ...], ...]
SMALL_ANCHORS: Sizes = ((16,), (32,), (64,), (128,))
ANCHORS: Sizes = ((32,), (64,), (128,), (256,), (512,))  # of Lin et al. 2017, section 4.1
MOBILE_ANCHORS: Sizes = ((32, 64, 128, 256, 512),) * 3
MAPS = {
    "small": 3,
    "resnet18": 4,
    "resnet50": 4,
    "mobilenet_v3_large": 2,
}  # and one that is pooled from the last
PYRAMID = 3  # of the last stages of the small backbone
FOREGROUND, BACKGROUND = (
    0.7,
    0.3,
)  # overlaps of an anchor that is an object, and of one that is none (section 3.1.2)
PROPOSALS_OVERLAP = 0.7  # of two proposals, from which on the worse is left out (section 3.3)
POSITIVE_FRACTION = 0.5  # of the anchors that are drawn (section 3.1.3)
INSIDE = 0.5  # of a box, that must lie in an object that does not count, for the box to be left out
CELLS = (
    2  # a side, that the last stage's map has at least: batch norm takes its statistics over them
)


class SmallBackbone(nn.Module):
    """Feature maps of images (B, C, H, W) for a CPU without an accelerator: a convolution
    that halves the image, and stages of two convolutions, the first of which halves it again; the
    last three feed a feature pyramid.

    Maps "0", "1", "2" and, pooled from the last, "pool", each with `out_channels` channels (Lin et
    al. 2017, "Feature Pyramid Networks for Object Detection").
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stem = nn.Sequential(*_convolution(in_channels, channels[0], 2))
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(before, width, 2), *_convolution(width, width, 1))
            for before, width in pairwise(channels)
        )
        self.fpn = FeaturePyramidNetwork(
            list(channels[-PYRAMID:]), out_channels, LastLevelMaxPool()
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        features: dict[str, Tensor] = self.fpn({str(i): m for i, m in enumerate(maps[-PYRAMID:])})
        return features


def _convolution(fan_in: int, fan_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]


class Proposals(RegionProposalNetwork):
    """torchvision's proposal network, whose loss leaves out anchors in objects that do not count."""

    @classmethod
    def of(cls, network: RegionProposalNetwork, batch: int) -> Proposals:
        """Return a network with the layers and settings of `network`, whose loss is of `batch`
        anchors an image.
        """
        limits = network._pre_nms_top_n, network._post_nms_top_n
        return cls(
            network.anchor_generator,
            network.head,
            FOREGROUND,
            BACKGROUND,
            batch,
            POSITIVE_FRACTION,
            *limits,
            PROPOSALS_OVERLAP,
        )

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return for the anchors (A, 4) of each image 1 for an object, 0 for background, -1 for
        neither, and the boxes.
        """
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, here, target in zip(labels, anchors, targets, strict=True):
            if not len(target["uncounted"]):
                continue
            left_out = inside(here, target["uncounted"]) & (label == 0)
            if (label[~left_out] >= 0).any():
                label[left_out] = -1
        return labels, boxes


def truth_of(rows: Tensor) -> dict[str, Tensor]:
    """Return the objects of the targets (M, 5 or 6) of an image as torchvision takes them, whose
    class 0 is background, and the boxes of those that do not count.
    """
    kept, uncounted = rows[is_trained(rows)], rows[:0]
    if rows.shape[1] > FLAG:
        uncounted = rows[is_box(rows) & ~is_trained(rows)]
    boxes, labels = kept[:, :CLASS].float(), kept[:, CLASS].long() + 1
    return {"boxes": boxes, "labels": labels, "uncounted": uncounted[:, :CLASS].float()}


def inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Return which of the boxes (N, 4) lie by half of their area or more in one of the regions (R,
    4).
    """
    corners = (
        torch.maximum(boxes[:, None, :2], regions[:, :2]),
        torch.minimum(boxes[:, None, 2:], regions[:, 2:]),
    )
    shared = (corners[1] - corners[0]).clamp(min=0).prod(dim=2)  # (N, R)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (shared >= INSIDE * area[:, None]).any(dim=1)


class FasterRCNN(nn.Module):
    """Boxes of the objects in images (B, C, H, W): torchvision's Faster R-CNN (Ren et al. 2015,
    "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks") behind tensors
    of one shape.

    At every place of every feature map stand anchors: boxes of each of the map's `anchor_sizes`
    (pixels, the side of a square of the same area) and of each of `aspect_ratios` (height by
    width). The proposal network scores and moves them; the best `pre_nms` of a map, without those
    that overlap, at most `post_nms`, are proposals, whose regions `roi_size` x `roi_size` points of
    the map stand for (RoIAlign, He et al. 2017). Two dense layers of `head_size` name and move
    these. The losses are of `rpn_batch` anchors and `box_batch` proposals an image, drawn again
    each time (equation 1, for each of the two). Fewer are faster: on a CPU most of the time goes
    there.

    The `small` backbone has a stage for each of `channels`, each of half the size of the one
    before: the last three and a pooled one are its maps. Others are torchvision's from random
    weights, with a pyramid of five maps (mobilenet: three). Their batch norm is trained, not
    frozen. ValueError for anchors that are not of the maps, and images too small for the backbone.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        backbone: Backbone = "small",
        channels: tuple[PositiveInt, ...] = (16, 32, 64, 128),
        pyramid_channels: PositiveInt = 64,
        anchor_sizes: tuple[tuple[PositiveInt, ...], ...] | None = None,
        aspect_ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0),
        pre_nms: PositiveInt = 200,
        post_nms: PositiveInt = 100,
        rpn_batch: PositiveInt = 128,
        box_batch: PositiveInt = 64,
        roi_size: PositiveInt = 7,
        head_size: PositiveInt = 256,
        score_threshold: Probability = 0.05,
        nms_threshold: Probability = 0.5,
        detections: PositiveInt = 100,
    ) -> None:
        super().__init__()
        if len(channels) <= PYRAMID:
            raise ValueError(
                f"model.channels={list(channels)}: the small backbone takes at least {PYRAMID + 1}, one a stage"
            )
        stride = 2 ** len(channels) if backbone == "small" else 32
        if min(image_size) < CELLS * stride:
            raise ValueError(
                f"model.backbone={backbone} halves the image until {stride} pixels are one: {image_size[0]}x{image_size[1]} "
                f"are too few, at least {CELLS * stride} a side (dataset.image_size)"
            )
        maps, own_anchors = self._maps(backbone, in_channels, channels, pyramid_channels)
        sizes = anchor_sizes or own_anchors
        names = [str(i) for i in range(MAPS[backbone])]
        if len(sizes) != len(names) + 1 or len({len(s) for s in sizes}) > 1:
            raise ValueError(
                f"model.anchor_sizes: expected {len(names) + 1} lists of the same length, one for each feature map of "
                f"{backbone}, such as {[list(s) for s in own_anchors]}"
            )
        self.num_classes, self.detections = num_classes, detections
        self.network = Network(
            maps,
            rpn_anchor_generator=AnchorGenerator(sizes, (tuple(aspect_ratios),) * len(sizes)),
            rpn_pre_nms_top_n_train=pre_nms,
            rpn_pre_nms_top_n_test=pre_nms,
            rpn_post_nms_top_n_train=post_nms,
            rpn_post_nms_top_n_test=post_nms,
            rpn_batch_size_per_image=rpn_batch,
            box_roi_pool=MultiScaleRoIAlign(names, roi_size, sampling_ratio=2),
            box_head=TwoMLPHead(maps.out_channels * roi_size**2, head_size),
            box_predictor=FastRCNNPredictor(
                head_size, num_classes + 1
            ),  # class 0 is the background
            box_score_thresh=score_threshold,
            box_nms_thresh=nms_threshold,
            box_detections_per_img=detections,
            box_batch_size_per_image=box_batch,
        )
        self.network.rpn = Proposals.of(self.network.rpn, rpn_batch)

    @staticmethod
    def _maps(
        name: Backbone, in_channels: int, channels: tuple[int, ...], width: int
    ) -> tuple[Any, Sizes]:
        """The backbone, and anchors for each of its maps."""
        if name == "small":
            return SmallBackbone(in_channels, channels, width), SMALL_ANCHORS
        if name == "mobilenet_v3_large":
            backbone = mobilenet_backbone(
                backbone_name=name,
                weights=None,
                fpn=True,
                norm_layer=nn.BatchNorm2d,
                trainable_layers=6,
            )
            first, key, anchors = backbone.body["0"], "0", MOBILE_ANCHORS
        else:
            backbone = resnet_fpn_backbone(
                backbone_name=name, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
            )
            first, key, anchors = backbone.body, "conv1", ANCHORS
        old = first.get_submodule(key)
        if in_channels != old.in_channels:
            new = nn.Conv2d(
                in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False
            )
            first.set_submodule(key, new)
        return backbone, anchors

    def forward(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return losses (none without targets (B, M, 5)), and detections (B, D, 6); no detections
        in training.

        A detection is x1, y1, x2, y2 in pixels, its score and its class number; the best come
        first, and padding has class -1.
        """
        features = self.network.backbone(images)
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        with torch.autocast(images.device.type, enabled=False):  # boxes need all their digits
            features = {
                name: maps.float().contiguous() for name, maps in features.items()
            }  # RoIAlign is ten times as slow on others
            listed = ImageList(images, sizes)
            losses = self.losses(features, listed, targets) if targets is not None else {}
            if self.training:
                return losses, images.new_zeros(len(images), 0, 6)
            proposals, _ = self.network.rpn(listed, features)
            found, _ = self.network.roi_heads(features, proposals, sizes)
        return losses, self.filled(found, images)

    def losses(
        self, features: dict[str, Tensor], images: ImageList, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of both networks, from anchors and proposals that are drawn as in
        training.

        Training takes means over what is drawn in a batch. Otherwise they are means over images,
        one after the other, so that they and what is drawn do not depend on the size of the
        batches.
        """
        if self.training:
            return self.batch_losses(features, images, targets)
        found = [
            self.batch_losses(
                {name: maps[i : i + 1] for name, maps in features.items()},
                ImageList(images.tensors[i : i + 1], images.image_sizes[i : i + 1]),
                targets[i : i + 1],
            )
            for i in range(len(targets))
        ]
        return {
            name: torch.stack([losses[name] for losses in found]).nanmean() for name in found[0]
        }

    def batch_losses(
        self, features: dict[str, Tensor], images: ImageList, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of both networks over what is drawn in a batch.

        Objects that do not count, as difficult ones, are neither objects nor background: anchors
        and proposals that lie in them are left out, unless they are of an object that counts.
        """
        truth = [truth_of(rows) for rows in targets]
        parts = (self.network.rpn, self.network.roi_heads)
        for part in parts:
            part.training = True
        try:
            proposals, of_proposals = parts[0](images, features, truth)
            proposals = [
                self.outside(found, known) for found, known in zip(proposals, truth, strict=True)
            ]
            _, of_boxes = parts[1](features, proposals, images.image_sizes, truth)
        finally:
            for part in parts:
                part.training = self.training
        return {**of_boxes, **of_proposals}

    def outside(self, proposals: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Return the proposals (P, 4) but those in objects that do not count; all if none would be
        left.
        """
        if not len(truth["uncounted"]):
            return proposals
        left_out = inside(proposals, truth["uncounted"])
        if len(truth["boxes"]):
            matcher = self.network.roi_heads.proposal_matcher
            left_out &= box_iou(proposals, truth["boxes"]).amax(dim=1) < matcher.high_threshold
        return proposals if left_out.all() and not len(truth["boxes"]) else proposals[~left_out]

    def filled(self, found: list[dict[str, Tensor]], images: Tensor) -> Tensor:
        """The detections of each image as rows (B, D, 6)."""
        rows = images.new_zeros(len(found), self.detections, 6, dtype=torch.float32)
        rows[..., 5] = -1
        for i, one in enumerate(found):
            columns = one["boxes"], one["scores"].unsqueeze(1), (one["labels"] - 1).unsqueeze(1)
            rows[i, : len(one["boxes"])] = torch.cat(columns, dim=1)
        return rows
