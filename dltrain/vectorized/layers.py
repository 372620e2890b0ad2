"""Layers of stacked networks: convolutions, pooling and dropout of several runs at once.

torch.func.vmap makes one grouped convolution of the convolutions of K runs. On a CPU that is faster
than K convolutions only if the channels of all runs lie next to each other, (B, H, W, K, C): each
pixel then has enough values for the vector instructions. The rules here keep this order, which vmap
itself gives up in a pooling layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CHANNELS_LAST = torch.channels_last
IMAGES = 4  # axes of images (B, C, H, W)
Pair = tuple[int, int]


def side_by_side(x: Tensor, dim: int | None) -> Tensor:
    """Return images of K runs as (B, K C, H, W), channels last; those that all share as they are.

    `dim` is the axis of x that counts the runs; None if there is none.
    """
    if dim is not None:
        x = x.movedim(dim, 1).flatten(1, 2)
    x = x.contiguous(memory_format=CHANNELS_LAST)
    _, channels, height, width = x.shape
    if channels == 1:  # both layouts are the same then; strides decide which one torch chooses
        x = x.as_strided(x.shape, (height * width, 1, width, 1), x.storage_offset())
    return x


def runs_of(dims: Sequence[int | None], *tensors: Tensor) -> int:
    """Return the number of runs: the size of the axis that counts them in one of the tensors."""
    sizes = [x.shape[dim] for x, dim in zip(tensors, dims, strict=True) if dim is not None]
    return sizes[0]


class GroupedConvolution(torch.autograd.Function):
    """A convolution of images (B, K C, H, W), channels last, in K groups, and its gradient.

    The gradient of the bias is a matrix product, which takes a quarter of the time of torch's sum.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...]
    ) -> Tensor:
        """Return the images after the convolution."""
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        ctx.has_bias = bias is not None
        stride, padding, dilation, groups = settings
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the gradients of the images, the weights and the bias."""
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        gradient = gradients[0].contiguous(memory_format=CHANNELS_LAST)
        needed = [ctx.needs_input_grad[0], True, False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, False, [0, 0], groups, needed
        )
        of_bias = None
        if ctx.has_bias:
            rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
            of_bias = (rows.new_ones(1, len(rows)) @ rows)[0]
        return of_x, of_weight, of_bias, None


class Convolution(torch.autograd.Function):
    """A convolution of images that vmap maps to one convolution with a group for each run."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...]
    ) -> Tensor:
        """Return the convolution of one run."""
        stride, padding, dilation, groups = settings
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: the gradient is that of the grouped convolution."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        settings: tuple[Any, ...],
    ) -> tuple[Tensor, int]:
        """Return the convolutions of all runs (B, K, C', H', W'), and 1, the axis of the runs."""
        stride, padding, dilation, groups = settings
        runs = info.batch_size
        weights = stacked(weight, in_dims[1], runs).flatten(0, 1)
        weights = weights.contiguous(memory_format=CHANNELS_LAST)
        biases = None if bias is None else stacked(bias, in_dims[2], runs).flatten()
        images = side_by_side(x, in_dims[0])
        if in_dims[0] is None and groups > 1:  # each run has all groups of the shared images
            images = images.repeat(1, runs, 1, 1).contiguous(memory_format=CHANNELS_LAST)
        if in_dims[0] is not None or groups > 1:
            groups = groups * runs
        out = GroupedConvolution.apply(images, weights, biases, (stride, padding, dilation, groups))
        return out.unflatten(1, (runs, -1)), 1


def stacked(x: Tensor, dim: int | None, runs: int) -> Tensor:
    """Return x with the axis of the runs in front; a tensor that all share is repeated."""
    if dim is None:
        return x.expand(runs, *x.shape)
    return x.movedim(dim, 0)


class MeanOfBlocks(torch.autograd.Function):
    """Average pooling over blocks of images (B, C, H, W), channels last, that do not overlap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Pair) -> Tensor:
        """Return the mean of each block."""
        ctx.size = size
        return F.avg_pool2d(x, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return the gradient of the images: each pixel has its fraction of its block's."""
        high, wide = ctx.size
        rows = (gradients[0] / (high * wide)).permute(0, 2, 3, 1)
        batch, height, width, channels = rows.shape
        blocks = rows.reshape(batch, height, 1, width, 1, channels)
        pixels = blocks.expand(batch, height, high, width, wide, channels)
        images = pixels.reshape(batch, height * high, width * wide, channels)
        return images.permute(0, 3, 1, 2), None


class Pooling(torch.autograd.Function):
    """A pooling function of images that vmap applies to the images of all runs side by side."""

    @staticmethod
    def forward(x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the pooled images of one run."""
        return pool(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: the gradient is that of the pooling."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, pool: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int | None]:
        """Return the pooled images of all runs (B, K, C, H', W'), and 1, the axis of the runs."""
        pooled = pool(side_by_side(x, in_dims[0]))
        if in_dims[0] is None:
            return pooled, None
        return pooled.unflatten(1, (info.batch_size, -1)), 1


def average_pool(x: Tensor, size: Any, stride: Any, rest: dict[str, Any]) -> Tensor:
    """Return the average pooling of images, with a faster gradient where blocks fill the images."""
    pair = as_pair(size)
    fills = not x.shape[2] % pair[0] and not x.shape[3] % pair[1]
    is_plain = stride in (None, size, pair) and not any(rest.values())
    if is_plain and fills:
        pooled: Tensor = MeanOfBlocks.apply(x, pair)
        return pooled
    return F.avg_pool2d(x, size, stride, **rest)


def as_pair(value: Any) -> Pair:
    """Return a setting for height and width."""
    if isinstance(value, int):
        return value, value
    return value[0], value[-1]


class StackedDropout(nn.Module):
    """Dropout of K runs: each mask is what the run's own layer would draw now.

    `draw` is called with the number of a run, from 0, and ones shaped like its input; it returns
    what the run's own dropout layer makes of them.
    """

    def __init__(self, draw: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x in training, and scale the others."""
        if not self.training:
            return x
        mask: Tensor = DropoutMask.apply(x, self.draw)
        return x * mask


class DropoutMask(torch.autograd.Function):
    """The factors of dropout (K, ...), drawn outside of vmap."""

    @staticmethod
    def forward(x: Tensor, draw: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Return the factors of the first run."""
        return draw(0, torch.ones_like(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: the factors have no gradient."""
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return no gradients."""
        return None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, draw: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        """Return the factors of all runs, and the axis of the runs."""
        dim = in_dims[0] or 0
        inputs = x.detach().unbind(dim) if in_dims[0] is not None else [x] * info.batch_size
        masks = [draw(run, torch.ones_like(one)) for run, one in enumerate(inputs)]
        return torch.stack(masks, dim), dim


class StackedFunctions(TorchFunctionMode):
    """Replaces functions of images within the block by those that have a rule for stacked runs."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the replacement of a function, or the function."""
        named = kwargs or {}
        replacement = REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **named)
        return replacement(func, *args, **named)


def conv2d(
    func: Any,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Return the convolution of one run by the rule for all."""
    if isinstance(padding, str) or x.ndim != IMAGES:
        return func(x, weight, bias, stride, padding, dilation, groups)
    settings = (as_pair(stride), as_pair(padding), as_pair(dilation), groups)
    return Convolution.apply(x, weight, bias, settings)


def avg_pool2d(func: Any, x: Tensor, kernel_size: Any, stride: Any = None, *rest: Any) -> Tensor:
    """Return the average pooling of one run by the rule for all."""
    names = ("padding", "ceil_mode", "count_include_pad", "divisor_override")
    named = dict(zip(names, rest, strict=False))
    if not named.get("padding"):
        named.pop("count_include_pad", None)
    return Pooling.apply(x, lambda images: average_pool(images, kernel_size, stride, named))


def pooled_by(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Return another pooling of one run by the rule for all."""
    if x.ndim != IMAGES or kwargs.get("return_indices"):
        return func(x, *args, **kwargs)
    return Pooling.apply(x, lambda images: func(images, *args, **kwargs))


REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    F.conv2d: conv2d,
    F.avg_pool2d: avg_pool2d,
    F.max_pool2d: pooled_by,
    F.adaptive_avg_pool2d: pooled_by,
}
