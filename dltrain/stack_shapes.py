"""The shapes of the tensors on the stack of an error: of layers, networks and arguments.

Everything is read from the frames of the traceback; no hook runs while a network computes. This
file imports no torch: without it there is no tensor on the stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType
from typing import Any, TypeAlias

Frames: TypeAlias = Sequence[tuple[FrameType, int]]
"""The frames of a traceback with the line at which each stopped, the outermost first."""

CALL = "_call_impl"  # the method of nn.Module that calls `forward`
MAX_LAYER_CHARS = 90
MAX_TENSORS = 8  # that are shown


@dataclass(frozen=True)
class ModuleCall:
    """A call of an `nn.Module` on the stack, with its arguments by name."""

    module: Any
    arguments: dict[str, Any]

    @property
    def shapes(self) -> str:
        """The shapes of its arguments."""
        return described_tensors(self.arguments) or "no tensor"


def loaded_torch() -> ModuleType | None:
    """Return torch if it is imported."""
    return sys.modules.get("torch")


def is_network(value: Any) -> bool:
    """Return True for an `nn.Module`."""
    torch = loaded_torch()
    return torch is not None and isinstance(value, torch.nn.Module)


def is_tensor(value: Any) -> bool:
    """Return True for a tensor."""
    torch = loaded_torch()
    return torch is not None and isinstance(value, torch.Tensor)


def module_calls(frames: Frames) -> list[ModuleCall]:
    """Return the calls of networks and layers in a traceback, the outermost first."""
    calls = []
    for frame, _ in frames:
        if frame.f_code.co_name == CALL and is_network(frame.f_locals.get("self")):
            calls.append(module_call(frame.f_locals))
    return calls


def module_call(names: dict[str, Any]) -> ModuleCall:
    """Return the call that the local names of torch's function describe."""
    module = names["self"]
    positional = zip(argument_names(module.forward), names.get("args", ()), strict=False)
    return ModuleCall(module, {**dict(positional), **names.get("kwargs", {})})


def argument_names(method: Callable[..., Any]) -> list[str]:
    """Return the names of a method's arguments without `self`."""
    code = getattr(method, "__code__", None)
    names: list[str] = []
    if isinstance(code, CodeType):
        names = list(code.co_varnames[1 : code.co_argcount])
    return names or ["input"]


def network_lines(calls: Sequence[ModuleCall], root: ModuleCall) -> list[str]:
    """Return lines with the shapes that the innermost layer and its network, the `root`, got."""
    lines = []
    layer = calls[-1]
    if layer.module is not root.module:
        name = dotted_name(root.module, layer.module)
        lines.append(f"layer {name}{described_layer(layer.module)} got {layer.shapes}")
    kind = type(root.module)
    lines.append(f"{kind.__module__}.{kind.__qualname__} got {root.shapes}")
    return lines


def argument_shapes(frame: FrameType) -> str:
    """Return the shapes of the tensors among the arguments of a frame's function."""
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return described_tensors({name: frame.f_locals.get(name) for name in names})


def dotted_name(root: Any, layer: Any) -> str:
    """Return the name of a layer in its network and an equals sign, or an empty string."""
    for name, module in root.named_modules():
        if module is layer:
            return f"{name} = "
    return ""


def described_layer(layer: Any) -> str:
    """Return a layer as torch prints it, in one line; of a larger one the class."""
    text = repr(layer)
    if "\n" in text or len(text) > MAX_LAYER_CHARS:
        return type(layer).__name__
    return text


def described_tensors(values: dict[str, Any]) -> str:
    """Return the shapes of the tensors among named values: "inputs (64, 784)"."""
    described = []
    for name, value in values.items():
        described += [f"{path} {described_tensor(one)}" for path, one in tensors_in(name, value)]
    if len(described) > MAX_TENSORS:
        described = [*described[:MAX_TENSORS], "..."]
    return ", ".join(described)


def tensors_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a value, which may be in tuples, lists and mappings, by name."""
    if is_tensor(value):
        yield name, value
    for key, one in items_of(value):
        yield from tensors_in(f"{name}[{key!r}]", one)


def items_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the items of a mapping, a list or a tuple with their keys; nothing for others."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, tuple | list) else ()


def described_tensor(tensor: Any) -> str:
    """Return the shape of a tensor, with its type and device where they are not the usual ones."""
    text = str(tuple(tensor.shape))
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind != "float32":
        text += f" {kind}"
    if tensor.device.type != "cpu":
        text += f" on {tensor.device}"
    return text
