"""A network of choices with shared weights: a path through it is a network of its own.

Guo et al. 2019, "Single Path One-Shot Neural Architecture Search with Uniform Sampling"; the widths
are those of slimmable networks (Yu et al. 2018), whose narrow layers are the first channels of wide
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.blocks import WithShortcut
from dltrain.models.layers import activation as activation_layer
from dltrain.models.layers import pool
from dltrain.types import Activation, Gt, Le, Pooling, PositiveInt

Kind: TypeAlias = Literal["plain", "separable", "residual"]
WidthFraction: TypeAlias = Annotated[float, Gt(0), Le(1)]
Path: TypeAlias = Sequence[int]
Activate: TypeAlias = Callable[[], nn.Module]
SKIP = "skip"


class SharedConv(nn.Conv2d):
    """A convolution of which the first channels may be used alone; it keeps the image's size."""

    def __init__(self, fan_in: int, fan_out: int, kernel_size: int) -> None:
        super().__init__(fan_in, fan_out, kernel_size, padding=kernel_size // 2, bias=False)

    def sliced(self, x: Tensor, fan_out: int) -> Tensor:
        """Return the first `fan_out` channels for images (B, C, H, W) with the first channels."""
        return F.conv2d(x, self.weight[:fan_out, : x.shape[1]], padding=self.padding)

    def alone(self, fan_in: int, fan_out: int) -> nn.Conv2d:
        """Return an ordinary convolution with a copy of the first weights."""
        size = self.kernel_size[0]
        conv = nn.Conv2d(fan_in, fan_out, size, padding=size // 2, bias=False)
        return with_weight(conv, self.weight[:fan_out, :fan_in])


class SharedDepthwise(nn.Conv2d):
    """A depthwise convolution of which the first channels may be used alone."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        padding = kernel_size // 2
        super().__init__(
            channels, channels, kernel_size, padding=padding, groups=channels, bias=False
        )

    def sliced(self, x: Tensor) -> Tensor:
        """Return the convolution of each channel of images (B, C, H, W)."""
        channels = x.shape[1]
        return F.conv2d(x, self.weight[:channels], padding=self.padding, groups=channels)

    def alone(self, channels: int) -> nn.Conv2d:
        """Return an ordinary depthwise convolution with a copy of the first weights."""
        size = self.kernel_size[0]
        conv = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False)
        return with_weight(conv, self.weight[:channels])


class SharedNorm(nn.BatchNorm2d):
    """Batch norm of which the first channels may be used alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized images (B, C, H, W)."""
        channels = x.shape[1]
        assert self.running_mean is not None
        assert self.running_var is not None
        return F.batch_norm(
            x,
            self.running_mean[:channels],
            self.running_var[:channels],
            self.weight[:channels],
            self.bias[:channels],
            self.training,
            self.momentum or 0.0,
            self.eps,
        )

    def alone(self, channels: int) -> nn.BatchNorm2d:
        """Return ordinary batch norm with a copy of the first scales and shifts."""
        norm = nn.BatchNorm2d(channels)
        norm.weight = copied(self.weight[:channels])
        norm.bias = copied(self.bias[:channels])
        return norm.to(self.weight.device)


def copied(values: Tensor) -> nn.Parameter:
    """Return a parameter with a copy of values."""
    return nn.Parameter(values.detach().clone())


def with_weight(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """Return a convolution with a copy of a weight."""
    conv.weight = copied(weight)
    return conv


class SharedPlain(nn.Module):
    """A convolution with norm and activation."""

    def __init__(self, fan_in: int, fan_out: int, size: int, activate: Activate) -> None:
        super().__init__()
        self.conv = SharedConv(fan_in, fan_out, size)
        self.norm = SharedNorm(fan_out)
        self.activate = activate

    def forward(self, x: Tensor, fan_out: int) -> Tensor:
        """Return images with `fan_out` channels."""
        images: Tensor = self.activate()(self.norm(self.conv.sliced(x, fan_out)))
        return images

    def alone(self, fan_in: int, fan_out: int) -> nn.Module:
        """Return the block as an ordinary network with so many channels."""
        conv = self.conv.alone(fan_in, fan_out)
        return nn.Sequential(conv, self.norm.alone(fan_out), self.activate())


class SharedSeparable(nn.Module):
    """A depthwise and a pointwise convolution, each with norm and activation."""

    def __init__(self, fan_in: int, fan_out: int, size: int, activate: Activate) -> None:
        super().__init__()
        self.depthwise = SharedDepthwise(fan_in, size)
        self.first_norm = SharedNorm(fan_in)
        self.pointwise = SharedConv(fan_in, fan_out, 1)
        self.second_norm = SharedNorm(fan_out)
        self.activate = activate

    def forward(self, x: Tensor, fan_out: int) -> Tensor:
        """Return images with `fan_out` channels."""
        x = self.activate()(self.first_norm(self.depthwise.sliced(x)))
        x = self.second_norm(self.pointwise.sliced(x, fan_out))
        images: Tensor = self.activate()(x)
        return images

    def alone(self, fan_in: int, fan_out: int) -> nn.Module:
        """Return the block as an ordinary network with so many channels."""
        return nn.Sequential(
            self.depthwise.alone(fan_in),
            self.first_norm.alone(fan_in),
            self.activate(),
            self.pointwise.alone(fan_in, fan_out),
            self.second_norm.alone(fan_out),
            self.activate(),
        )


class SharedResidual(nn.Module):
    """Two convolutions with a shortcut around them, which is one of a pixel."""

    def __init__(self, fan_in: int, fan_out: int, size: int, activate: Activate) -> None:
        super().__init__()
        self.first = SharedConv(fan_in, fan_out, size)
        self.first_norm = SharedNorm(fan_out)
        self.second = SharedConv(fan_out, fan_out, size)
        self.second_norm = SharedNorm(fan_out)
        self.shortcut = SharedConv(fan_in, fan_out, 1)
        self.activate = activate

    def forward(self, x: Tensor, fan_out: int) -> Tensor:
        """Return images with `fan_out` channels."""
        body = self.activate()(self.first_norm(self.first.sliced(x, fan_out)))
        body = self.second_norm(self.second.sliced(body, fan_out))
        images: Tensor = self.activate()(body + self.shortcut.sliced(x, fan_out))
        return images

    def alone(self, fan_in: int, fan_out: int) -> nn.Module:
        """Return the block as an ordinary network with so many channels."""
        body = nn.Sequential(
            self.first.alone(fan_in, fan_out),
            self.first_norm.alone(fan_out),
            self.activate(),
            self.second.alone(fan_out, fan_out),
            self.second_norm.alone(fan_out),
        )
        shortcut = self.shortcut.alone(fan_in, fan_out)
        return nn.Sequential(WithShortcut(body, shortcut), self.activate())


class Skip(nn.Module):
    """No block at all: a choice that makes a network less deep."""

    def forward(self, x: Tensor, fan_out: int) -> Tensor:
        """Return the images."""
        return x

    def alone(self, fan_in: int, fan_out: int) -> nn.Module:
        """Return a layer that does nothing."""
        return nn.Identity()


SHARED: dict[str, Callable[[int, int, int, Activate], nn.Module]] = {
    "plain": SharedPlain,
    "separable": SharedSeparable,
    "residual": SharedResidual,
}


class Supernet(nn.Module):
    """Stages of blocks with choices, pooling after each stage, and a linear layer.

    Maps images (B, C, H, W) to logits (B, num_classes). A path has a place for the width of each
    stage, followed by one for the kind of each of its blocks; see `options`. Without a path, a call
    uses the widest network, or the one that was kept.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels.
        num_classes: Number of classes.
        channels: The channels of each stage at full width.
        blocks: The number of blocks in a stage.
        kinds: The kinds of blocks to choose from.
        kernel_sizes: Their kernels.
        skip: Whether a block other than the first of a stage may be left out.
        widths: The fractions of the channels of a stage to choose from; one of them is 1.
        activation: The activation after every norm.
        pooling: The pooling at the end of every stage, which halves the image.

    Raises:
        ValueError: The images are too small for so many stages, there is nothing to choose from,
            or no width is 1.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        channels: tuple[PositiveInt, ...] = (16, 32, 64),
        blocks: PositiveInt = 2,
        kinds: tuple[Kind, ...] = ("plain", "separable", "residual"),
        kernel_sizes: tuple[Literal[1, 3, 5, 7], ...] = (3, 5),
        skip: bool = True,
        widths: tuple[WidthFraction, ...] = (0.5, 0.75, 1.0),
        activation: Activation = "relu",
        pooling: Pooling = "max",
    ) -> None:
        super().__init__()
        if not (channels and kinds and kernel_sizes) or 1.0 not in widths:
            raise ValueError(
                "model.channels, model.kinds and model.kernel_sizes need an entry each, and "
                "model.widths needs the entry 1.0"
            )
        if min(image_size) < 2 ** len(channels):
            raise ValueError(
                f"the network halves the image {len(channels)} times: {image_size[0]}x"
                f"{image_size[1]} pixels are too few; give model.channels fewer entries"
            )
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.channels = channels
        self.widths = widths
        self.pooling = pooling
        self.names = [f"{kind} {size}x{size}" for kind in kinds for size in kernel_sizes]
        self.stages = nn.ModuleList()

        def activate() -> nn.Module:
            return activation_layer(activation)

        for fan_in, fan_out in pairwise((in_channels, *channels)):
            stage = nn.ModuleList()
            for number in range(blocks):
                block_in = fan_out if number else fan_in
                choices = nn.ModuleList(
                    SHARED[kind](block_in, fan_out, size, activate)
                    for kind in kinds
                    for size in kernel_sizes
                )
                if skip and number:
                    choices.append(Skip())
                stage.append(choices)
            self.stages.append(stage)
        self.body = nn.Sequential()  # of the path that is kept
        self.head = nn.Linear(channels[-1], num_classes)
        self.pool = pool(pooling)
        self.counts: dict[tuple[nn.Module, int, int], int] = {}  # of blocks and their channels

    def options(self) -> list[int]:
        """Return the number of choices at each place of a path."""
        numbers = []
        for stage in self.stages:
            numbers.append(len(self.widths))
            numbers += [len(choices) for choices in blocks_of(stage)]
        return numbers

    def widest(self) -> list[int]:
        """Return the path of full width whose blocks are the first of the kinds."""
        path = []
        for stage in self.stages:
            path += [self.widths.index(1.0), *[0] * len(blocks_of(stage))]
        return path

    def parts(self, path: Path) -> list[tuple[int, list[nn.Module]]]:
        """Return the number of channels of each stage of a path, and its blocks."""
        places = iter(path)
        parts = []
        for full, stage in zip(self.channels, self.stages, strict=True):
            channels = max(1, round(full * self.widths[next(places)]))
            parts.append((channels, [choices[next(places)] for choices in blocks_of(stage)]))
        return parts

    def forward(self, images: Tensor, path: Path | None = None) -> Tensor:
        """Return the logits (B, num_classes) of the network of a path."""
        if not len(self.stages):
            logits: Tensor = self.head(self.body(images))
            return logits
        x = images
        for channels, blocks in self.parts(self.widest() if path is None else path):
            for block in blocks:
                x = block(x, channels)
            x = self.pool(x)
        features = x.mean(dim=(2, 3))  # (B, C)
        return F.linear(features, self.head.weight[:, : features.shape[1]], self.head.bias)

    def alone(self, path: Path) -> nn.Sequential:
        """Return the network of a path, with copies of the shared weights."""
        return nn.Sequential(*self.body_and_head(path))

    def body_and_head(self, path: Path) -> tuple[nn.Sequential, nn.Linear]:
        """Return the layers of the network of a path, and its output layer."""
        layers: list[nn.Module] = []
        fan_in = self.in_channels
        for channels, blocks in self.parts(path):
            for block in blocks:
                layers.append(alone_of(block, fan_in, channels))
                fan_in = channels
            layers.append(pool(self.pooling))
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        output = nn.Linear(fan_in, self.num_classes)
        output.weight = copied(self.head.weight[:, :fan_in])
        output.bias = copied(self.head.bias)
        return body, output

    def parameters_of(self, path: Path) -> int:
        """Return the number of parameters of the network of a path."""
        total = 0
        fan_in = self.in_channels
        for channels, blocks in self.parts(path):
            for block in blocks:
                total += self.counted(block, fan_in, channels)
                fan_in = channels
        return total + (fan_in + 1) * self.num_classes

    def counted(self, block: nn.Module, fan_in: int, fan_out: int) -> int:
        """Return the number of parameters of a block alone; it is counted once."""
        key = (block, fan_in, fan_out)
        if key not in self.counts:
            with torch.random.fork_rng(devices=[]):  # ordinary layers draw initial weights
                alone = alone_of(block, fan_in, fan_out)
            self.counts[key] = sum(p.numel() for p in alone.parameters())
        return self.counts[key]

    def describe(self, path: Path) -> str:
        """Return a path in words: the channels and the blocks of each stage."""
        places = iter(path)
        names = [*self.names, SKIP]
        texts = []
        for full, stage in zip(self.channels, self.stages, strict=True):
            channels = max(1, round(full * self.widths[next(places)]))
            kinds = [names[next(places)] for _ in blocks_of(stage)]
            texts.append(f"{channels}: {', '.join(kinds)}")
        return "; ".join(texts)

    @torch.no_grad()
    def compute_statistics(self, batches: Iterable[Tensor], path: Path | None = None) -> None:
        """Compute the statistics of batch norm for a path, as the mean over batches of images.

        Those of training are of all paths together, and wrong for each (Guo et al. 2019, section
        3.4). The network is in training mode afterwards.
        """
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        self.train()
        for number, images in enumerate(batches):
            for norm in norms:
                norm.momentum = 1 / (number + 1)
            self(images, path)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def keep(self, path: Path) -> None:
        """Become the network of a path: the weights of all others are dropped."""
        weights = [module.weight for module in self.modules() if isinstance(module, nn.Conv2d)]
        by_pixel = all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
        self.body, self.head = self.body_and_head(path)
        self.stages = nn.ModuleList()
        self.counts.clear()
        self.to(weights[0].device)
        if by_pixel:
            self.to(memory_format=torch.channels_last)


def alone_of(block: nn.Module, fan_in: int, fan_out: int) -> nn.Module:
    """Return a shared block as an ordinary network."""
    assert isinstance(block, SharedPlain | SharedSeparable | SharedResidual | Skip)
    return block.alone(fan_in, fan_out)


def blocks_of(stage: nn.Module) -> list[nn.ModuleList]:
    """Return the blocks of a stage, each a list of choices."""
    return [block for block in stage.children() if isinstance(block, nn.ModuleList)]
