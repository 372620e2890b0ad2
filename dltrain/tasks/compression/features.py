"""Feature matching: a layer of the student learns to give what a layer of the teacher gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import rng
from dltrain.types import PAD, Spec, TrainedNetwork

MEASURED_SAMPLES = 2  # of the batch that shows the sizes of layers
ANY_TOKEN = PAD + 1


class FeatureMatching(nn.Module):
    """The hint loss of FitNets (Romero et al. 2015, "FitNets: Hints for Thin Deep Nets").

    It is equation 3: the squared distance between a layer of the teacher and an adapted layer of
    the student, here as a mean over values. Where the layers have different numbers of channels,
    the adapter is a learned 1x1 convolution, or a linear layer for vectors. Where feature maps have
    different sizes, those of the teacher are averaged to the size of the student's.

    Args:
        student: The student.
        layers: The names of the teacher's layers by those of the student's.
        sizes: The number of channels of each layer of the teacher, in the same order.
        spec: The shape of the data.

    Raises:
        ValueError: The student has no layer of a name, or it does not give one tensor.
    """

    def __init__(
        self, student: nn.Module, layers: Mapping[str, str], sizes: Sequence[int], spec: Spec
    ) -> None:
        super().__init__()
        self.layers = dict(layers)
        shapes = layer_shapes(student, list(layers), spec, "the student")
        pairs = zip(shapes, sizes, strict=True)
        self.adapters = nn.ModuleList(adapter(shape, size) for shape, size in pairs)

    def loss(
        self,
        student: Mapping[str, Tensor],
        network: TrainedNetwork,
        teacher: Mapping[str, Tensor],
    ) -> Tensor:
        """Return the sum over the layers of the distances of features, by layer names.

        A network that stands in for a run has other layers: its features are zero.
        """
        pairs = zip(self.layers.items(), self.adapters, strict=True)
        total = torch.zeros(())
        for index, ((own_name, name), adapt) in enumerate(pairs):
            adapted = adapt(student[own_name])
            wanted = torch.zeros_like(adapted)
            if not network.is_fake:
                wanted = resized_like(teacher[name], adapted)
            distance = F.mse_loss(adapted.float(), wanted.float())
            total = distance if index == 0 else total + distance
        return total


def adapter(shape: Sequence[int], size: int) -> nn.Module:
    """Return what maps features of the student (B, C, H, W) or (..., C) to `size` channels."""
    is_map = len(shape) == 4
    channels = shape[1] if is_map else shape[-1]
    if channels == size:
        return nn.Identity()
    return nn.Conv2d(channels, size, 1) if is_map else nn.Linear(channels, size)


def resized_like(features: Tensor, like: Tensor) -> Tensor:
    """Return feature maps (B, C, H, W) averaged to the size of other ones; vectors as they are.

    Raises:
        ValueError: One of them is a vector and the other a map.
    """
    if features.shape == like.shape:
        return features
    if features.ndim != 4 or like.ndim != 4:
        raise ValueError(
            f"task.features: a layer of the teacher gives {tuple(features.shape)}, and the "
            f"student's gives {tuple(like.shape)}; name two layers of the same kind"
        )
    return F.adaptive_avg_pool2d(features, (like.shape[2], like.shape[3]))


@contextmanager
def captured(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a mapping that gets the outputs of layers by name when the network runs."""
    outputs: dict[str, Any] = {}
    handles = []
    for name in names:
        layer = network.get_submodule(name)
        handles.append(layer.register_forward_hook(keeping(outputs, name)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def keeping(outputs: dict[str, Any], name: str) -> Any:
    """Return a hook that keeps the output of a layer under its name."""

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        outputs[name] = output

    return keep


def layer_shapes(
    network: nn.Module, names: Sequence[str], spec: Spec, owner: str
) -> list[tuple[int, ...]]:
    """Return the shape of what each layer gives for a batch; `owner` names the network.

    Raises:
        ValueError: There is no layer of a name, or it does not give one tensor.
    """
    known = dict(network.named_modules())
    for name in names:
        if name not in known:
            parts = ", ".join(known)
            raise ValueError(f"task.features: {owner} has no layer {name!r}; its layers: {parts}")
    was_training = network.training
    with torch.no_grad(), rng.preserved(), captured(network.eval(), names) as outputs:
        network(example(network, spec))
    network.train(was_training)
    for name in names:
        if not isinstance(outputs.get(name), Tensor):
            raise ValueError(f"task.features: the layer {name} of {owner} does not give a tensor")
    return [tuple(outputs[name].shape) for name in names]


def example(network: nn.Module, spec: Spec) -> Tensor:
    """Return a batch of the shape of the data, on the device of a network."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    shape = (MEASURED_SAMPLES, *spec.input_shape)
    if spec.vocab_size:
        return torch.full(shape, ANY_TOKEN, device=device)
    return torch.zeros(shape, device=device)
