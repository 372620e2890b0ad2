"""The device of a run: precision, memory format, compilation, determinism, threads.

Importing this module changes nothing: settings of the whole process are made when a run starts
(`Device.set_up`, `Device.place`).
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import nn

from dltrain.acceleration.activations import recompute_activations
from dltrain.acceleration.compiling import compile_networks
from dltrain.acceleration.feeding import DeviceFeed
from dltrain.acceleration.graphs import NEEDS_GPU, CudaRecorder, GraphStepRunner, PlainInstead
from dltrain.acceleration.placing import fitting_device
from dltrain.acceleration.rounding import has_tf32, round_products
from dltrain.acceleration.start_up import leave_compiler_unloaded, use_deterministic_kernels
from dltrain.distributed.environment import launched_size
from dltrain.engine import Feed, PlainStepRunner, StepRunner
from dltrain.errors import UsageError
from dltrain.host import current_host
from dltrain.types import Ge, PositiveFloat, Spec

log = logging.getLogger("dltrain")
TORCH_THREADS = torch.get_num_threads()  # torch's choice, before any run changes it
SMALL_STEP_FLOPS = 2 * 10**8  # a forward pass of about 10 ms on one thread
LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}

# parameters of mallopt, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
MAX_KEPT_BYTES = 2**30  # larger blocks go back to the system


def let_malloc_keep_memory() -> bool:
    """Let malloc keep freed memory, as torch does on a GPU; return whether it can.

    glibc returns tensors above 32 MiB to the system at once. Every step then requests its tensors
    again, page by page, each filled with zeros first: nearly half the time of a large network's
    step. Blocks above 1 GiB are still returned.
    """
    if os.name != "posix":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt is None:
        return False
    keeps = mallopt(M_MMAP_THRESHOLD, MAX_KEPT_BYTES)
    if not keeps:  # an older glibc does not accept such a threshold
        keeps = mallopt(M_MMAP_MAX, 0)
    return bool(keeps and mallopt(M_TRIM_THRESHOLD, -1))


def most_flops(network: nn.Module, spec: Spec, batch_size: int) -> int:
    """Return an upper bound of the floating-point operations of a batch's forward pass.

    Each weight is used at most once per position. The positions of a convolution's weights are
    pixels; those of all others are the steps of a sequence or the rows of an image. Embedding
    tables are looked up and cost nothing.
    """
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    pixels, steps = _positions(spec)
    weights = [p for p in network.parameters() if p.ndim > 1 and id(p) not in tables]
    multiplications = 0
    for weight in weights:
        positions = steps if weight.ndim == 2 else pixels
        multiplications += weight.numel() * positions
    return 2 * batch_size * multiplications


def _positions(spec: Spec) -> tuple[int, int]:
    """Return upper bounds of the positions of a convolution's weights, and of other weights."""
    shape = spec.input_shape
    if spec.is_image:
        pixels = math.prod(shape[1:])
    elif spec.num_states:
        pixels = 1
    else:
        pixels = math.prod(shape[:1])
    if spec.vocab_size or len(shape) == 2:
        return pixels, shape[0]
    return pixels, shape[1] if len(shape) == 3 else 1


def cpu_is_fast_in_bf16() -> bool:
    """Return whether the CPU has instructions for bf16."""
    has_wide_vectors = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return has_wide_vectors and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device_name(device: torch.device) -> str:
    """Return the name of a CUDA device; "" for others."""
    if device.type != "cuda":
        return ""
    return torch.cuda.get_device_name(device)


@dataclass(frozen=True)
class Device:
    """The hardware of a run and how it is used; `auto` chooses the best for this machine.

    * `precision`: bf16 and fp16 run the forward pass under autocast with fp32 weights; fp16 scales
      the loss; tf32 is fp32 whose matrix products and convolutions round their factors to TF32, on
      NVIDIA GPUs since Ampere, and fp32 elsewhere.
    * `channels_last` stores images and kernels channel by channel within a pixel, which most
      convolutions prefer; auto: on a CPU, and with half precision.
    * `compile`: "model" compiles each network by torch.compile; "step" also records a whole step
      as a CUDA graph where that is possible; true means "model".
    * `data`: "device" keeps a data set in the device's memory, "host" in the host's, from where
      batches are copied ahead of their use; auto: on the device if it fits in half of the memory
      that is free there.
    * `checkpoint_activations` recomputes the activations of repeated blocks in the backward pass:
      less memory, and a second forward pass of each block (`recompute_activations`).
    * `deterministic` requests deterministic kernels of torch (those for a CPU always are).
    * `threads` on a CPU: 0 is torch's own choice; auto uses one thread if a step is too small
      to divide among several (`choose_threads`).
    * `flush_denormals` rounds floats below 1e-38 to 0. A CPU takes many times as long for such
      floats, and they are common in saturated units and decayed moments.
    * `keep_freed_memory` on a CPU: the process keeps freed memory for later requests.
    * `tune`: a new run measures the settings that are auto and keeps the fastest ones
      (`dltrain.experiment.tuned`), instead of choosing them by rules.
    * `processes` divide each batch among them and train together (`dltrain.distributed`), each on a
      GPU of its own where there are GPUs.
    * `parallel`: with "ddp" each of them has the whole network, with "fsdp" a part of every
      parameter, gradient and moment (torch's fully_shard).
    * `sync_batch_norm` computes the statistics of batch norm over the rows of all processes.
    * `process_timeout`: the seconds that a process waits for another before the run ends.
    """

    name: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "fp32"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["off", "model", "step", "auto"] = "off"
    data: Literal["auto", "device", "host"] = "auto"
    checkpoint_activations: bool = False
    deterministic: bool = False
    threads: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    flush_denormals: bool = True
    keep_freed_memory: bool = True
    tune: bool = False
    processes: Annotated[int, Ge(1)] = 1
    parallel: Literal["ddp", "fsdp"] = "ddp"
    sync_batch_norm: bool = False
    process_timeout: PositiveFloat = 600.0

    def torch_device(self) -> torch.device:
        """Return the device; UsageError if this machine does not have the named one."""
        available = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        here = [name for name, is_here in available.items() if is_here]
        name = here[0] if self.name == "auto" else self.name
        if name not in here:
            raise UsageError(
                f"device={name}: torch cannot use this device on this machine; "
                f"set device=auto, or one of: {', '.join(here)}"
            )
        return torch.device(name)

    def resolved_precision(self) -> str:
        """Return the precision that is used: fp32, tf32, bf16 or fp16."""
        if self.precision == "tf32" and not has_tf32(self.torch_device()):
            return "fp32"
        if self.precision != "auto":
            return self.precision
        device = self.torch_device().type
        if device == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        if device == "cpu" and cpu_is_fast_in_bf16():
            return "bf16"
        return "fp32"

    def resolved_channels_last(self) -> bool:
        """Return whether images and kernels are stored channel by channel within a pixel."""
        if self.channels_last != "auto":
            return self.channels_last
        return self.torch_device().type == "cpu" or self.resolved_precision() in LOW_PRECISION

    def resolved_compile(self) -> str:
        """Return what is compiled: off, model or step."""
        if self.compile == "auto":
            return "model" if self.torch_device().type == "cuda" else "off"
        if isinstance(self.compile, bool):
            return "model" if self.compile else "off"
        return self.compile

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        dtype = LOW_PRECISION.get(self.resolved_precision())
        if dtype is None:
            return nullcontext()
        return torch.autocast(self.torch_device().type, dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaling for fp16, whose small gradients would vanish; disabled otherwise.

        Micikevicius et al. 2018, "Mixed Precision Training", section 3.2.
        """
        return torch.amp.GradScaler(
            self.torch_device().type, enabled=self.resolved_precision() == "fp16"
        )

    def set_up(self) -> None:
        """Apply the settings of the whole process, before it computes anything.

        Threads inherit the rounding of denormals from the thread that starts them.
        """
        torch.set_flush_denormal(self.flush_denormals)
        threads = 0 if self.threads == "auto" else self.threads
        torch.set_num_threads(threads or TORCH_THREADS)
        if self.resolved_compile() == "off":
            leave_compiler_unloaded()
        use_deterministic_kernels(self.deterministic)
        if self.deterministic:
            # cuBLAS requires it of a deterministic program
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if self.torch_device().type == "cuda":
            torch.backends.cudnn.benchmark = not self.deterministic
            round_products(self.resolved_precision() == "tf32")
        elif self.precision == "tf32":
            log.warning(
                f"device.precision=tf32: {self.torch_device().type} has no TF32, so fp32 is used"
            )

    def choose_threads(self, flops: int) -> None:
        """Use one thread if a batch's forward pass takes few operations: `flops` at most.

        Threads that share little work wait for each other most of the time, and for a free CPU on a
        busy machine. The rule measures nothing: rounding depends on the number of threads, and
        the same command has to give the same numbers.
        """
        is_small = flops < SMALL_STEP_FLOPS
        if self.threads == "auto" and is_small and self.torch_device().type == "cpu":
            torch.set_num_threads(1)

    def place(self, task: nn.Module) -> None:
        """Put `task` on the device in its memory format, and compile its networks if that is set.

        On a CPU freed memory is kept from here on.
        """
        device = self.torch_device()
        task.to(device)
        if self.keeps_memory():
            let_malloc_keep_memory()
        if self.resolved_channels_last():
            task.to(memory_format=torch.channels_last)
        if self.checkpoint_activations:
            recompute_activations(task)
        if self.resolved_compile() != "off":
            compile_networks(task)

    def keeps_memory(self) -> bool:
        """Tell if the process keeps freed memory, which a Python program may not allow."""
        is_allowed = self.keep_freed_memory and current_host().keeps_memory
        return is_allowed and self.torch_device().type == "cpu"

    def data_device(self, size_in_bytes: Callable[[], int]) -> torch.device:
        """Return where a data set of that size is kept: the device, or the host's memory."""
        device = self.torch_device()
        if device.type == "cpu" or self.data == "device":
            return device
        if self.data == "host":
            return torch.device("cpu")
        return fitting_device(device, size_in_bytes())

    def feed(self) -> Feed:
        """Return what brings batches (tensors in tuples, lists, dicts) to the device."""
        device = self.torch_device()
        if device.type == "cpu":
            return Feed()
        return DeviceFeed.of(device)

    def step_runner(self) -> StepRunner:
        """Return what runs the steps of a stage on the device."""
        if self.resolved_compile() != "step":
            return PlainStepRunner()
        device = self.torch_device()
        if device.type != "cuda":
            return PlainInstead(NEEDS_GPU)
        return GraphStepRunner(CudaRecorder(device))

    def num_processes(self) -> int:
        """Return the number of processes of a run.

        Raises UsageError if torchrun has started another number than is set, or a GPU is missing.
        """
        launched = launched_size()
        if launched == 1:
            self._require_own_gpus()
            return self.processes
        if self.processes not in (1, launched):
            raise UsageError(
                f"torchrun started {launched} processes, and device.processes is "
                f"{self.processes}; leave out device.processes"
            )
        return launched

    def _require_own_gpus(self) -> None:
        """Raise UsageError if there are fewer GPUs than processes that use them."""
        if self.processes == 1 or self.torch_device().type != "cuda":
            return
        count = torch.cuda.device_count()
        if self.processes > count:
            raise UsageError(
                f"device.processes={self.processes}: this machine has {count} GPUs, and each "
                f"process needs one; set device.processes={count}"
            )

    def summary(self) -> dict[str, Any]:
        """Return the effective settings, for the manifest."""
        device = self.torch_device()
        return {
            "device": device.type,
            "device_name": device_name(device),
            "precision": self.resolved_precision(),
            "channels_last": self.resolved_channels_last(),
            "compile": self.resolved_compile(),
            "checkpoint_activations": self.checkpoint_activations,
            "threads": torch.get_num_threads(),
            "flush_denormals": self.flush_denormals,
            "keep_freed_memory": self.keeps_memory(),
            "processes": self.num_processes(),
        }
