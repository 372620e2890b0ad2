"""Faster R-CNN: a region proposal network, and a classifier of the proposed regions."""

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

from dltrain.models.detection.sampling import SeededSampler
from dltrain.models.layers import without_autocast
from dltrain.types import PositiveFloat, PositiveInt, Probability
from dltrain.types.boxes import CLASS, FLAG, is_box, is_trained
from dltrain.types.rows import counting_by

Backbone: TypeAlias = Literal["small", "resnet18", "resnet50", "mobilenet_v3_large"]
Sizes: TypeAlias = tuple[tuple[int, ...], ...]
SMALL_ANCHORS: Sizes = ((16,), (32,), (64,), (128,))
ANCHORS: Sizes = ((32,), (64,), (128,), (256,), (512,))  # of Lin et al. 2017, section 4.1
MOBILE_ANCHORS: Sizes = ((32, 64, 128, 256, 512),) * 3
# Feature maps of each backbone; one more is pooled from the last.
NUM_MAPS = {"small": 3, "resnet18": 4, "resnet50": 4, "mobilenet_v3_large": 2}
PYRAMID_STAGES = 3  # the last stages of the small backbone feed the pyramid
# Sections of Ren et al. 2015:
FOREGROUND_IOU = 0.7  # of an anchor that is an object, at least (section 3.1.2)
BACKGROUND_IOU = 0.3  # of an anchor that is background, at most (section 3.1.2)
PROPOSAL_IOU = 0.7  # of two proposals; above it the worse one is dropped (section 3.3)
POSITIVE_FRACTION = 0.5  # of the sampled anchors (section 3.1.3)
BOX_POSITIVE_FRACTION = 0.25  # of the proposals, as in torchvision
# A box is ignored if this fraction of its area lies inside an object that does not count.
IGNORED_FRACTION = 0.5
MIN_MAP_PIXELS = 2  # per side of the last map, for the statistics of batch norm


class SmallBackbone(nn.Module):
    """A small backbone for a CPU, with a feature pyramid.

    Maps images (B, C, H, W) to feature maps "0", "1", "2" and, pooled from the last, "pool", with
    `out_channels` channels each (Lin et al. 2017, "Feature Pyramid Networks for Object Detection").
    A convolution halves the image; each stage has two convolutions, the first of which halves it
    again; the last three stages feed the pyramid.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stem = nn.Sequential(*_convolution(in_channels, channels[0], 2))
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(before, width, 2), *_convolution(width, width, 1))
            for before, width in pairwise(channels)
        )
        widths = list(channels[-PYRAMID_STAGES:])
        self.fpn = FeaturePyramidNetwork(widths, out_channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps of images (B, C, H, W) by name."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        inputs = {str(i): map_ for i, map_ in enumerate(maps[-PYRAMID_STAGES:])}
        features: dict[str, Tensor] = self.fpn(inputs)
        return features


def _convolution(fan_in: int, fan_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]


class Proposals(RegionProposalNetwork):
    """torchvision's proposal network; its loss ignores anchors in objects that do not count."""

    @classmethod
    def of(cls, network: RegionProposalNetwork, batch: int) -> Proposals:
        """Return a network with the layers and settings of `network`.

        Its loss samples `batch` anchors per image.
        """
        return cls(
            network.anchor_generator,
            network.head,
            fg_iou_thresh=FOREGROUND_IOU,
            bg_iou_thresh=BACKGROUND_IOU,
            batch_size_per_image=batch,
            positive_fraction=POSITIVE_FRACTION,
            pre_nms_top_n=network._pre_nms_top_n,
            post_nms_top_n=network._post_nms_top_n,
            nms_thresh=PROPOSAL_IOU,
        )

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return labels (A,) of the anchors (A, 4) of each image, and the boxes they belong to.

        Labels are 1 for an object, 0 for background and -1 for neither.
        """
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for own_labels, own_anchors, target in zip(labels, anchors, targets, strict=True):
            if not len(target["uncounted"]):
                continue
            ignored = inside(own_anchors, target["uncounted"]) & (own_labels == 0)
            if (own_labels[~ignored] >= 0).any():
                own_labels[ignored] = -1
        return labels, boxes


def truth_of(rows: Tensor) -> dict[str, Tensor]:
    """Convert the targets (M, 5 or 6) of an image to torchvision's format.

    "boxes" (N, 4) and "labels" (N,) are the objects; class 0 is background there. "uncounted" (U,
    4) are the boxes of objects that do not count.
    """
    counted = rows[is_trained(rows)]
    uncounted = rows[:0]
    if rows.shape[1] > FLAG:
        uncounted = rows[is_box(rows) & ~is_trained(rows)]
    return {
        "boxes": counted[:, :CLASS].float(),
        "labels": counted[:, CLASS].long() + 1,
        "uncounted": uncounted[:, :CLASS].float(),
    }


def inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Return a mask (N,) of the boxes (N, 4) at least half inside one of the regions (R, 4)."""
    top_left = torch.maximum(boxes[:, None, :2], regions[:, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=2)  # (N, R)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (intersection >= IGNORED_FRACTION * area[:, None]).any(dim=1)


def weighed(losses: dict[str, Tensor], num_samples: Tensor) -> dict[str, Tensor]:
    """Return losses that are means over samples, such that several processes give one mean."""
    factor = counting_by(num_samples)
    return {name: loss * factor for name, loss in losses.items()}


class FasterRCNN(nn.Module):
    """torchvision's Faster R-CNN with tensors of fixed shapes.

    See Ren et al. 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
    Networks". The proposal network scores and moves anchors, which are boxes at every position of
    every feature map. The best proposals are pooled (RoIAlign, He et al. 2017), classified and
    moved by two dense layers. Both losses (equation 1) are over anchors and proposals that are
    sampled in every step; on a CPU they take most of the time, so fewer samples are faster. Batch
    norm is trained, not frozen.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes, without background.
        backbone: "small", or a backbone of torchvision with random weights and a pyramid of five
            feature maps (mobilenet: three).
        channels: Channels of the stages of the small backbone, each of half the size of the one
            before. Its feature maps are the last three and a pooled one.
        pyramid_channels: Channels of the small backbone's feature maps.
        anchor_sizes: A list per feature map: sides in pixels of squares of the anchors' area.
        aspect_ratios: Height divided by width of the anchors.
        pre_nms: Proposals per feature map before non-maximum suppression.
        post_nms: Proposals after it.
        rpn_batch: Anchors per image that the loss of the proposal network samples.
        box_batch: Proposals per image that the loss of the classifier samples.
        roi_size: Height and width of a pooled proposal.
        head_size: Units of the two dense layers.
        score_threshold: Minimum score of a detection.
        nms_threshold: IoU above which the worse of two detections is dropped.
        detections: Maximum number of detections per image.

    Raises:
        ValueError: The anchors do not match the feature maps, or the images are too small.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
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
        _require_pixels(backbone, channels, image_size)
        maps, default_anchors = self._maps(backbone, in_channels, channels, pyramid_channels)
        sizes = anchor_sizes or default_anchors
        names = [str(i) for i in range(NUM_MAPS[backbone])]
        if len(sizes) != len(names) + 1 or len(set(map(len, sizes))) > 1:
            raise ValueError(
                f"model.anchor_sizes: expected {len(names) + 1} lists of the same length, one for "
                f"each feature map of {backbone}, such as {list(map(list, default_anchors))}"
            )
        self.num_classes = num_classes
        self.detections = detections
        num_outputs = num_classes + 1  # class 0 is the background
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
            box_predictor=FastRCNNPredictor(head_size, num_outputs),
            box_score_thresh=score_threshold,
            box_nms_thresh=nms_threshold,
            box_detections_per_img=detections,
            box_batch_size_per_image=box_batch,
        )
        self.network.rpn = Proposals.of(self.network.rpn, rpn_batch)
        self.network.rpn.fg_bg_sampler = SeededSampler(rpn_batch, POSITIVE_FRACTION)
        self.network.roi_heads.fg_bg_sampler = SeededSampler(box_batch, BOX_POSITIVE_FRACTION)

    @staticmethod
    def _maps(
        name: Backbone, in_channels: int, channels: tuple[int, ...], width: int
    ) -> tuple[Any, Sizes]:
        """Return the backbone and the default anchors of each of its feature maps."""
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
            _replace_first_convolution(backbone.body["0"], "0", in_channels)
            return backbone, MOBILE_ANCHORS
        backbone = resnet_fpn_backbone(
            backbone_name=name, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        _replace_first_convolution(backbone.body, "conv1", in_channels)
        return backbone, ANCHORS

    def forward(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return losses by name and detections (B, D, 6) of images (B, C, H, W).

        Without targets (B, M, 5 or 6) there are no losses; in training there are no detections. A
        detection is x1, y1, x2, y2 in pixels, score and class number; the best come first, and
        padding has class -1.
        """
        features = self.network.backbone(images)
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        with without_autocast(images.device):  # boxes need full precision
            for name, maps in features.items():
                # RoIAlign is ten times as slow on channels-last maps.
                features[name] = maps.float().contiguous()
            image_list = ImageList(images, sizes)
            losses: dict[str, Tensor] = {}
            if targets is not None:
                losses = self.losses(features, image_list, targets)
            if self.training:
                return losses, images.new_zeros(len(images), 0, 6)
            proposals, _ = self.network.rpn(image_list, features)
            detections, _ = self.network.roi_heads(features, proposals, sizes)
        return losses, self.padded(detections, images)

    def losses(
        self, features: dict[str, Tensor], images: ImageList, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of both networks, from sampled anchors and proposals.

        In training they are means over the samples of a batch. Otherwise they are means over
        images, each computed alone, so that they do not depend on the batch size.
        """
        if self.training:
            return self.batch_losses(features, images, targets)
        per_image = []
        for i in range(len(targets)):
            one = slice(i, i + 1)
            own_features = {name: maps[one] for name, maps in features.items()}
            image = ImageList(images.tensors[one], images.image_sizes[one])
            per_image.append(self.batch_losses(own_features, image, targets[one]))
        means = {}
        for name in per_image[0]:
            means[name] = torch.stack([losses[name] for losses in per_image]).nanmean()
        return means

    def batch_losses(
        self, features: dict[str, Tensor], images: ImageList, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of both networks over the samples of a batch.

        Objects that do not count, such as difficult ones, are neither objects nor background:
        anchors and proposals inside of them are ignored, unless they belong to an object that
        counts.
        """
        truth = [truth_of(rows) for rows in targets]
        rpn = self.network.rpn
        roi_heads = self.network.roi_heads
        rpn.training = roi_heads.training = True
        try:
            proposals, rpn_losses = rpn(images, features, truth)
            proposals = list(map(self.without_ignored, proposals, truth))
            _, box_losses = roi_heads(features, proposals, images.image_sizes, truth)
        finally:
            rpn.training = roi_heads.training = self.training
        return {
            **weighed(box_losses, roi_heads.fg_bg_sampler.num_samples),
            **weighed(rpn_losses, rpn.fg_bg_sampler.num_samples),
        }

    def without_ignored(self, proposals: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Return the proposals (P, 4) outside of objects that do not count; all if none is left."""
        if not len(truth["uncounted"]):
            return proposals
        ignored = inside(proposals, truth["uncounted"])
        if len(truth["boxes"]):
            matcher = self.network.roi_heads.proposal_matcher
            ignored &= box_iou(proposals, truth["boxes"]).amax(dim=1) < matcher.high_threshold
        elif ignored.all():
            return proposals
        return proposals[~ignored]

    def padded(self, detections: list[dict[str, Tensor]], images: Tensor) -> Tensor:
        """Return the detections of each image as rows (B, D, 6), padded with class -1."""
        rows = images.new_zeros(len(detections), self.detections, 6, dtype=torch.float32)
        rows[..., 5] = -1
        for i, own in enumerate(detections):
            scores = own["scores"].unsqueeze(1)
            classes = (own["labels"] - 1).unsqueeze(1)
            rows[i, : len(scores)] = torch.cat([own["boxes"], scores, classes], dim=1)
        return rows


def _require_pixels(
    backbone: Backbone, channels: tuple[int, ...], image_size: tuple[int, int]
) -> None:
    """Refuse too few stages, and images that are too small for the backbone."""
    if len(channels) <= PYRAMID_STAGES:
        raise ValueError(
            f"model.channels={list(channels)}: the small backbone needs at least "
            f"{PYRAMID_STAGES + 1} entries, one per stage"
        )
    stride = 2 ** len(channels) if backbone == "small" else 32
    least = MIN_MAP_PIXELS * stride
    if min(image_size) < least:
        height, width = image_size
        raise ValueError(
            f"model.backbone={backbone} reduces {stride} pixels to one: {height}x{width} are too "
            f"few, use at least {least} per side (dataset.image_size)"
        )


def _replace_first_convolution(parent: nn.Module, name: str, in_channels: int) -> None:
    """Replace a convolution if it has another number of input channels."""
    old: Any = parent.get_submodule(name)
    if in_channels == old.in_channels:
        return
    new = nn.Conv2d(
        in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=False
    )
    parent.set_submodule(name, new)
