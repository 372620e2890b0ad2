"""Where and in what precision an experiment computes: device, autocast, memory format, compilation, determinism."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from dltrain.errors import UsageError
from dltrain.types import Ge, Spec

# Floats below 1e-38 become 0: a processor takes many times as long for them, and saturated units and decayed moments are full
# of them. Threads inherit it from the one that makes them: so before torch makes its own.
torch.set_flush_denormal(True)
THREADS = (
    torch.get_num_threads()
)  # torch's own choice, for the experiments of a sweep that set none
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h of glibc
SMALL_STEP_FLOPS = (
    2 * 10**8
)  # of a batch's forward pass: a hundredth of a second or so on one thread
LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed for what is asked next, as torch does on a GPU; whether this C library can.

    glibc gives a tensor above 32 MiB back to the system at once. Every step then asks for its tensors anew, page by page,
    each filled with zeros first: nearly half the time of a large network's step. What is above 1 GiB it still gives back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    keeps = mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(
        M_MMAP_MAX, 0
    )  # an older glibc takes no such threshold
    return bool(keeps and mallopt(M_TRIM_THRESHOLD, -1))


def most_flops(network: nn.Module, spec: Spec, batch_size: int) -> int:
    """Return an upper bound of the operations of a batch's forward pass: a weight is used once a
    place at most.

    Places are the pixels for a convolution's weights, and the steps of a sequence (the rows of an
    image) for the others. Tables of embeddings are looked up.
    """
    shape = spec.input_shape
    pixels = (
        math.prod(shape[1:]) if spec.is_image else 1 if spec.num_states else math.prod(shape[:1])
    )
    steps = shape[0] if spec.vocab_size or len(shape) == 2 else shape[1] if len(shape) == 3 else 1
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    weights = [p for p in network.parameters() if p.ndim > 1 and id(p) not in tables]
    return 2 * batch_size * sum(p.numel() * (steps if p.ndim == 2 else pixels) for p in weights)


@dataclass(frozen=True)
class Device:
    """What the user asked of the hardware.

    `auto` means: whatever is best among what this machine has.

    `precision` bf16 and fp16 run the forward pass under autocast with fp32 weights; fp16 scales the
    loss. `channels_last` stores images and kernels channel by channel within a pixel, which most
    convolutions prefer; auto: on a CPU, and with half precision. `compile` hands each network to
    torch.compile. `deterministic` asks torch for deterministic kernels (on CPU they are so anyway).
    `threads` on the CPU: 0 leaves torch's own choice, and auto takes one for steps too small to
    share (`choose_threads`).
    """

    name: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = False
    deterministic: bool = False
    threads: Annotated[int, Ge(0)] | Literal["auto"] = "auto"

    def torch_device(self) -> torch.device:
        """The device; UsageError if this machine does not have the one that was named."""
        available = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        name = next(n for n in available if available[n]) if self.name == "auto" else self.name
        if not available[name]:
            here = ", ".join(n for n in available if available[n])
            raise UsageError(
                f"device={name}: this machine has none that torch can use; here are: {here} (device=auto)"
            )
        return torch.device(name)

    def resolved_precision(self) -> str:
        if self.precision != "auto":
            return self.precision
        if self.torch_device().type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        fast = (
            self.torch_device().type == "cpu"
            and "AVX512" in torch.backends.cpu.get_cpu_capability()
        )
        return "bf16" if fast and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"

    def resolved_channels_last(self) -> bool:
        if self.channels_last != "auto":
            return self.channels_last
        return self.torch_device().type == "cpu" or self.resolved_precision() != "fp32"

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = LOW_PRECISION.get(self.resolved_precision())
        return torch.autocast(self.torch_device().type, dtype) if dtype else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16, whose small gradients would vanish (Micikevicius et al. 2018); off otherwise."""
        return torch.amp.GradScaler(
            self.torch_device().type, enabled=self.resolved_precision() == "fp16"
        )

    def set_up(self) -> None:
        """Apply the settings that are the whole process's."""
        torch.set_num_threads(THREADS if self.threads == "auto" else self.threads or THREADS)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        if self.deterministic:
            os.environ.setdefault(
                "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
            )  # what cuBLAS asks of a deterministic program
        if self.torch_device().type == "cuda":
            torch.backends.cudnn.benchmark = not self.deterministic

    def choose_threads(self, flops: int) -> None:
        """Use one thread where a batch's forward pass takes at most `flops` operations, and these
        are few.

        Threads that share little work wait for each other most of the time; beside other busy
        processes they wait for a turn of each. The rule measures nothing: rounding depends on the
        number of threads, and the same command has to give the same figures.
        """
        if (
            self.threads == "auto"
            and self.torch_device().type == "cpu"
            and flops < SMALL_STEP_FLOPS
        ):
            torch.set_num_threads(1)

    def place(self, task: nn.Module) -> None:
        """Put `task` on the device in its memory format, and compile its networks if asked. On a CPU freed memory is kept
        from here on: reading the data, which comes before, takes much once."""
        task.to(self.torch_device())
        if self.torch_device().type == "cpu":
            keep_freed_memory()
        if self.resolved_channels_last():
            task.to(memory_format=torch.channels_last)
        if self.compile is True or (self.compile == "auto" and self.torch_device().type == "cuda"):
            for network in task.children():
                network.compile()

    def mover(self) -> Callable[[Any], Any]:
        """What takes a batch (tensors in tuples, lists, dicts) to the device; on a CPU, nothing to do."""
        device = self.torch_device()
        if device.type == "cpu":
            return lambda batch: batch

        def move(batch: Any) -> Any:
            if isinstance(batch, Tensor):
                return batch.to(device, non_blocking=True)
            if isinstance(batch, dict):
                return {key: move(value) for key, value in batch.items()}
            if isinstance(batch, tuple | list):
                return type(batch)(move(value) for value in batch)
            return batch

        return move

    def summary(self) -> dict[str, Any]:
        """The effective values, for the manifest."""
        device = self.torch_device()
        return {
            "device": device.type,
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
            "precision": self.resolved_precision(),
            "channels_last": self.resolved_channels_last(),
            "threads": torch.get_num_threads(),
        }
