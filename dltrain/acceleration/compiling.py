"""Compiles the networks of a task by torch.compile: what a training step calls, for its shapes.

Evaluation and a short last batch run without compilation, so that they compile nothing again.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dltrain import rng
from dltrain.acceleration.activations import RecomputedForward
from dltrain.engine import Callback, Engine
from dltrain.errors import DltrainError
from dltrain.step_runner import is_out_of_memory

log = logging.getLogger("dltrain")
Forward = Callable[..., Any]

BACKEND = "inductor"
SIMPLE_TYPES = (bool, int, str, type(None))  # whose values a graph may depend on
TORCH_ADVICE = "TORCHDYNAMO_VERBOSE"  # in a line of its messages
MAX_GRAPHS = 8  # a network; further shapes run without compilation
MIN_CALLS = 3  # with a batch size, before it is compiled as well,
MIN_FRACTION = 0.1  # and the fraction of all calls that have it


@dataclass
class CallScope:
    """Tells the networks of a task if one of them runs: its parts are compiled with it."""

    is_running: bool = False


class CompiledForward:
    """The calls of a network: compiled in training, plain in evaluation.

    It takes the place of torch's own compiled call in a module, which copies, pickles and
    `state_dict` leave out. The first call in training compiles for the shapes of its arguments. A
    batch of another size is compiled for only if it is frequent: the last batch of an epoch is not.
    If another dimension differs, such as the length of sequences, one more graph serves all sizes.
    What cannot be compiled runs plainly, with one warning.

    Counters and the shapes that are compiled for are kept in checkpoints (`state_dict`), so that a
    resumed run compiles for the same calls.
    """

    def __init__(self, network: nn.Module, name: str, scope: CallScope) -> None:
        self.network = network
        self.name = name
        self.scope = scope
        self.plain: Forward = network._call_impl
        self.parameters = list(network.parameters())
        self.forwards: dict[Any, Forward] = {}  # by signature
        self.dynamic: dict[str, Forward] = {}  # by kind
        self.graphs = 0
        self.failed = False

        # in checkpoints
        self.calls = 0
        self.counts: dict[str, int] = {}  # of the signatures that are not compiled for
        self.first_sizes: dict[str, str] = {}  # by kind, without the batch dimension
        self.compiled: list[str] = []  # signatures

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns for these arguments."""
        is_training = self.network.training and torch.is_grad_enabled()
        if self.failed or self.scope.is_running or not is_training:
            return self.plain(*args, **kwargs)
        self.scope.is_running = True
        try:
            return self._train(args, kwargs)
        finally:
            self.scope.is_running = False

    def _train(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.calls += 1
        trainable = tuple([p.requires_grad for p in self.parameters])
        signature = (trainable, described(args), described(kwargs))
        forward = self.forwards.get(signature)
        if forward is not None:
            return forward(*args, **kwargs)
        forward = self._choose(signature)
        if forward is self.plain:
            return self.plain(*args, **kwargs)
        return self._try(forward, signature, args, kwargs)

    def _choose(self, signature: Any) -> Forward:
        """Return what to call for a signature that has not been compiled for yet."""
        kind = digest(changed(signature, lambda tensor: (len(tensor.shape), *tensor[2:])))
        sizes = digest(changed(signature, lambda tensor: tensor.shape[1:]))
        if kind not in self.first_sizes:
            self.first_sizes[kind] = sizes
            return self._new_graph(dynamic=False)
        if sizes != self.first_sizes[kind]:
            if kind not in self.dynamic:
                self.dynamic[kind] = self._new_graph(dynamic=True)
            return self.dynamic[kind]
        shapes = digest(signature)
        if shapes in self.compiled or self._is_frequent(shapes):
            return self._new_graph(dynamic=False)
        return self.plain

    def _is_frequent(self, signature: str) -> bool:
        """Count a call; tell if the calls with this signature are worth a graph of their own."""
        count = self.counts.get(signature, 0) + 1
        self.counts[signature] = count
        return count >= MIN_CALLS and count >= MIN_FRACTION * self.calls

    def _new_graph(self, dynamic: bool) -> Forward:
        """Return a compiled forward pass, or the plain one if there are too many."""
        if self.graphs == MAX_GRAPHS:
            log.warning(
                f"device.compile: {self.name} was compiled for {MAX_GRAPHS} shapes; "
                "batches of other shapes run without compilation"
            )
        self.graphs += 1
        if self.graphs > MAX_GRAPHS:
            return self.plain
        compiled: Forward = torch.compile(own_code(self.plain), backend=BACKEND, dynamic=dynamic)
        return compiled

    def _try(
        self, forward: Forward, signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the result of a first call; if it cannot be compiled, that of the plain one."""
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        random_state = rng.state_dict()
        try:
            with quiet_compilation():
                result = forward(*args, **kwargs)
        except DltrainError:
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            reason = reason_of(error)
        else:
            self.forwards[signature] = forward
            self.compiled.append(digest(signature))
            return result
        self.failed = True
        rng.load_state_dict(random_state)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        result = self.plain(*args, **kwargs)
        # an error of the network itself was raised by the plain call
        log.warning(
            f"device.compile: {self.name} cannot be compiled and runs without compilation: {reason}"
        )
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs to compile for the same calls."""
        return {
            "calls": self.calls,
            "counts": dict(self.counts),
            "first_sizes": dict(self.first_sizes),
            "compiled": list(self.compiled),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.calls = state["calls"]
        self.counts = dict(state["counts"])
        self.first_sizes = dict(state["first_sizes"])
        self.compiled = list(state["compiled"])


class TensorLayout(NamedTuple):
    """The properties of a tensor argument that a graph depends on."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool


def described(value: Any) -> Any:
    """Return what a graph depends on in an argument: the layout of each tensor in it."""
    if isinstance(value, Tensor):
        return TensorLayout(tuple(value.shape), value.stride(), value.dtype, value.requires_grad)
    if isinstance(value, tuple | list):
        return tuple([described(one) for one in value])
    if isinstance(value, dict):
        return tuple([(key, described(one)) for key, one in value.items()])
    if isinstance(value, SIMPLE_TYPES):
        return value
    return type(value).__name__


def changed(signature: Any, change: Callable[[TensorLayout], Any]) -> Any:
    """Return a signature with the layout of each tensor changed."""
    if isinstance(signature, TensorLayout):
        return change(signature)
    if isinstance(signature, tuple):
        return tuple([changed(one, change) for one in signature])
    return signature


def digest(signature: Any) -> str:
    """Return a short text that stands for a signature in checkpoints."""
    return hashlib.sha256(str(signature).encode()).hexdigest()[:16]


def own_code(forward: Forward) -> Forward:
    """Return a function that calls `forward`, with a code object of its own.

    torch counts graphs by code object, and one is common to all modules.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    return FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


@contextmanager
def quiet_compilation() -> Iterator[None]:
    """Compile forward and backward pass within the block, without the compiler's messages.

    Otherwise the backward pass is compiled when it first runs, where a failure ends the step. A
    graph above torch's limit raises, which torch would only log.
    """
    import torch._dynamo.config  # slow to load, so only when something is compiled
    import torch._functorch.config

    with (
        silent_torch(),
        warnings.catch_warnings(),
        torch._functorch.config.patch(force_non_lazy_backward_lowering=True),
        torch._dynamo.config.patch(fail_on_recompile_limit_hit=True),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def silent_torch() -> Iterator[None]:
    """Write no log lines of torch within the block; those of other libraries are written."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.")]
    loggers = [logging.getLogger(name) for name in names]
    enabled = [logger for logger in loggers if not logger.disabled]
    for logger in enabled:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in enabled:
            logger.disabled = False


def reason_of(error: Exception) -> str:
    """Return the kind of an error and the first two lines of its message.

    Empty lines are left out, and torch's advice about its own environment variables.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    about_error = [line for line in lines if TORCH_ADVICE not in line]
    return " ".join([f"{type(error).__name__}:", *about_error[:2]])


def compile_networks(task: nn.Module) -> None:
    """Compile what training steps call of each network of `task`.

    That is the network itself, or, where a task calls other methods of it, the parts that these
    call. Networks without parameters, such as losses, stay plain. A network whose blocks recompute
    their activations is compiled block by block.
    """
    scope = CallScope()
    for name, network in task.named_children():
        for path, module in network.named_modules(prefix=name):
            is_callable = module is network or is_part(module)
            if not is_callable or next(module.parameters(), None) is None:
                continue
            recomputed = module._compiled_call_impl
            if isinstance(recomputed, RecomputedForward):
                recomputed.forward = CompiledForward(module, path, scope)
            elif not recomputes(module):
                module._compiled_call_impl = CompiledForward(module, path, scope)


def is_part(module: nn.Module) -> bool:
    """Return whether a part of a network can be called and has more than one layer."""
    containers = (nn.ModuleList, nn.ModuleDict)
    return not isinstance(module, containers) and next(module.children(), None) is not None


def recomputes(module: nn.Module) -> bool:
    """Return whether a block within a module recomputes its activations."""
    return any(isinstance(one._compiled_call_impl, RecomputedForward) for one in module.modules())


def compiled_forwards(task: nn.Module) -> dict[str, CompiledForward]:
    """Return the calls that `compile_networks` replaced, by the name of their module."""
    forwards = {}
    for name, module in task.named_modules():
        forward = module._compiled_call_impl
        if isinstance(forward, RecomputedForward):
            forward = forward.forward
        if isinstance(forward, CompiledForward):
            forwards[name] = forward
    return forwards


class Compilation(Callback):
    """Keeps what is compiled in checkpoints, and says once if a task has nothing to compile."""

    name = "compilation"
    draws = False

    def __init__(self, task: nn.Module) -> None:
        self.forwards = compiled_forwards(task)

    def run_end(self, engine: Engine) -> None:
        """Warn if no stage called anything that is compiled."""
        if not any(forward.calls for forward in self.forwards.values()):
            log.warning(
                "device.compile: no stage of this task calls a network as a whole, so nothing was "
                "compiled; set device.compile=off"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the networks that were called."""
        return {name: one.state_dict() for name, one in self.forwards.items() if one.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; networks that it lacks start again."""
        for name, one in state.items():
            if name in self.forwards:
                self.forwards[name].load_state_dict(one)
