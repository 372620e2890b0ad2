"""The process of a Python program: all that a run changes in it is as before afterwards.

A run seeds the global random generators, chooses the number of threads and the rounding of
denormals, and more; the program around it has settings of its own. Within `isolated` a run finds
the settings that a new process has, so that it gives the same numbers as the command line, and the
program finds its own again after the block, also after an exception.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dltrain import rng
from dltrain.acceleration.start_up import use_deterministic_kernels
from dltrain.device import Device
from dltrain.host import Host, hosted_by
from dltrain.screen import Screen
from dltrain.user_code import user_errors_explained

log = logging.getLogger("dltrain")
ONE_AT_A_TIME = threading.RLock()  # the random generators are those of the whole process
SMALLEST = 5e-324  # a denormal number
HIGHEST = "highest"  # the precision of matrix products that a new process has
NOT_SET = "none"  # a precision that is that of the next more general setting
BACKENDS: Any = torch.backends
# The parts of torch that have a precision of their own, the most general one first. That of
# mkldnn as a whole is not one of them: torch sets the most general one in its place.
PRECISE = (
    BACKENDS,
    BACKENDS.cudnn,
    BACKENDS.cuda.matmul,
    BACKENDS.cudnn.conv,
    BACKENDS.cudnn.rnn,
    BACKENDS.mkldnn.matmul,
    BACKENDS.mkldnn.conv,
    BACKENDS.mkldnn.rnn,
)


@contextmanager
def isolated(verbose: bool = False, keeps_memory: bool = False) -> Iterator[None]:
    """Run the block as a new process would, and leave the process as it was.

    Only one thread at a time is in such a block; others wait. With `verbose`, messages are printed
    and a progress bar is drawn where it can be. With `keeps_memory`, malloc may keep freed memory,
    which is the only setting that stays.
    """
    host = Host(ends_at_second_signal=False, shows_progress=verbose, keeps_memory=keeps_memory)
    with ONE_AT_A_TIME, ExitStack() as stack:
        stack.enter_context(hosted_by(host))
        stack.enter_context(messages(verbose))
        stack.enter_context(PYTHON.changed())
        stack.enter_context(torch_of_new_process())
        stack.enter_context(random_generators())
        stack.enter_context(user_errors_explained())
        yield


@contextmanager
def messages(verbose: bool) -> Iterator[None]:
    """Let a run log all that its train.log needs; the program gets what its settings let through.

    With `verbose`, messages are printed too.
    """
    before = log.level, log.handlers, log.propagate
    log.handlers = [Forwarding(log)]
    if verbose:
        log.handlers.append(Screen(sys.stdout))
    log.propagate = False
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        level, log.handlers, log.propagate = before
        log.setLevel(level)


class Forwarding(logging.Handler):
    """Passes records on to the handlers that `logger` has, and to those of its parents.

    They get the records that they would get if the level of `logger` never changed.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.threshold = logger.getEffectiveLevel()
        self.handlers = list(logger.handlers)
        self.parent = logger.parent if logger.propagate else None

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, unless the program does not want its level."""
        if record.levelno < self.threshold:
            return
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.parent is not None and self.parent.hasHandlers():
            self.parent.callHandlers(record)


@dataclass(frozen=True)
class PythonSettings:
    """Settings of Python's library that reading data and building plugins may change."""

    path: list[str]
    environment: dict[str, str]
    hook: Callable[[threading.ExceptHookArgs], Any]
    field_size: int

    @classmethod
    def current(cls) -> PythonSettings:
        """Return the settings as they are."""
        hook = threading.excepthook
        return cls(list(sys.path), dict(os.environ), hook, csv.field_size_limit())

    def apply(self) -> None:
        """Set the settings."""
        sys.path[:] = self.path
        restore_environment(self.environment)
        threading.excepthook = self.hook
        csv.field_size_limit(self.field_size)


def restore_environment(before: dict[str, str]) -> None:
    """Give every environment variable the value that it had."""
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@dataclass(frozen=True)
class TorchSettings:
    """Settings of torch for the whole process.

    The number of threads and the rounding of denormals are settings of each thread.
    """

    dtype: torch.dtype
    has_cudnn: bool
    benchmark: bool
    cudnn_deterministic: bool
    deterministic: bool
    warns_only: bool
    finds_anomalies: bool

    @classmethod
    def current(cls) -> TorchSettings:
        """Return the settings as they are."""
        return cls(
            dtype=torch.get_default_dtype(),
            has_cudnn=torch.backends.cudnn.enabled,
            benchmark=torch.backends.cudnn.benchmark,
            cudnn_deterministic=torch.backends.cudnn.deterministic,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            warns_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            finds_anomalies=torch.is_anomaly_enabled(),
        )

    @classmethod
    def of_new_process(cls) -> TorchSettings:
        """Return the settings that torch begins with."""
        return cls(torch.float32, True, False, False, False, False, False)

    def apply(self) -> None:
        """Set the settings."""
        torch.set_default_dtype(self.dtype)
        torch.backends.cudnn.enabled = self.has_cudnn
        torch.backends.cudnn.benchmark = self.benchmark
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        torch.autograd.set_detect_anomaly(self.finds_anomalies)
        use_deterministic_kernels(self.deterministic, self.warns_only)


@dataclass(frozen=True)
class Precision:
    """The settings that decide how exactly torch computes with float32 numbers.

    Torch has two older settings, and newer ones for each of its parts. Where a program has set the
    newer ones, the older ones may not be read.
    """

    products: str
    rounds_convolutions: bool
    of_parts: tuple[str, ...]

    @classmethod
    def taken(cls) -> Precision:
        """Return the precision as it is; that of the parts is not set afterwards."""
        products, rounds_convolutions = HIGHEST, True
        with suppress(RuntimeError):
            products = torch.get_float32_matmul_precision()
        with suppress(RuntimeError):
            rounds_convolutions = torch.backends.cudnn.allow_tf32
        of_parts = []
        for part in PRECISE:  # a part that is not set tells the precision of a more general one
            of_parts.append(part.fp32_precision)
            part.fp32_precision = NOT_SET
        return cls(products, rounds_convolutions, tuple(of_parts))

    @classmethod
    def of_new_process(cls) -> Precision:
        """Return the precision that torch begins with."""
        return cls(HIGHEST, True, ())

    def apply(self) -> None:
        """Set the precision; the older settings first, which set those of parts too."""
        torch.set_float32_matmul_precision(self.products)
        torch.backends.cudnn.allow_tf32 = self.rounds_convolutions
        for part, precision in zip(PRECISE, self.of_parts, strict=False):
            part.fp32_precision = precision


class SharedSettings:
    """Settings of the process that several blocks share, which may overlap in several threads.

    The first block to begin calls `change`, which changes the settings and has the program's own
    restored when the stack closes: that is when the last block has ended.
    """

    def __init__(self, change: Callable[[ExitStack], None]) -> None:
        self.change = change
        self.lock = threading.Lock()
        self.blocks = 0
        self.restoring = ExitStack()

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Have the settings in the block."""
        with self.lock:
            if not self.blocks:
                self.change(self.restoring)
            self.blocks += 1
        try:
            yield
        finally:
            with self.lock:
                self.blocks -= 1
                if not self.blocks:
                    self.restoring.close()


def change_python(restoring: ExitStack) -> None:
    """Have Python's settings restored; the program's own are in force until they change."""
    restoring.enter_context(warnings.catch_warnings())
    restoring.callback(PythonSettings.current().apply)


def change_torch(restoring: ExitStack) -> None:
    """Set what torch begins with."""
    PROGRAM_THREADS.append(torch.get_num_threads())
    restoring.callback(PROGRAM_THREADS.clear)
    restoring.callback(TorchSettings.current().apply)
    TorchSettings.of_new_process().apply()
    restoring.callback(Precision.taken().apply)
    Precision.of_new_process().apply()


PROGRAM_THREADS: list[int] = []  # the program's number of threads, while a block changes torch's
PYTHON = SharedSettings(change_python)
TORCH = SharedSettings(change_torch)
IN_BLOCK = threading.local()


@contextmanager
def torch_of_new_process() -> Iterator[None]:
    """Have torch's settings of a new process in the block, and the program's again after it.

    A thread that begins to use torch while a run trains in another would start with the number of
    threads of that run; after its block it has the program's number.
    """
    is_nested = vars(IN_BLOCK).get("depth", 0) > 0
    own_threads = torch.get_num_threads()
    flushes = flushes_denormals()
    with TORCH.changed():
        threads = own_threads if is_nested else PROGRAM_THREADS[0]
        IN_BLOCK.depth = vars(IN_BLOCK).get("depth", 0) + 1
        try:
            with ordinary_mode():
                yield
        finally:
            IN_BLOCK.depth -= 1
            torch.set_num_threads(threads)
            torch.set_flush_denormal(flushes)


@contextmanager
def predicting(device: Device, threads: int) -> Iterator[None]:
    """Compute in the block as the run does: its threads and its rounding of denormals."""
    with torch_of_new_process():
        torch.set_num_threads(threads)
        torch.set_flush_denormal(device.flush_denormals)
        with user_errors_explained():
            yield


@contextmanager
def ordinary_mode() -> Iterator[None]:
    """Leave the program's modes of torch for the block: no gradients, autocast, default device."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        for device in autocast_devices():
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def autocast_devices() -> list[str]:
    """Return the types of device for which the program has autocast on."""
    return [name for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)]


def flushes_denormals() -> bool:
    """Tell if this thread rounds denormal numbers to 0; torch can set this but not tell it."""
    return float(torch.tensor(SMALLEST, dtype=torch.float64, device="cpu") * 1.0) == 0.0


@contextmanager
def random_generators() -> Iterator[None]:
    """Restore all random generators after the block.

    Generators of CUDA that began in the block get the seed that they would begin with.
    """
    had_cuda = torch.cuda.is_initialized()
    with rng.preserved():
        yield
    if torch.cuda.is_initialized() and not had_cuda:
        torch.cuda.manual_seed_all(torch.initial_seed())
