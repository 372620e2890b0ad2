"""The random number generators of a run: seeded together, captured and restored together.

Tasks draw from named generators of their own (`python_stream`, `torch_stream`). Dropout, the
initialization of layers and everything else that a model draws come from torch's global generators.
They belong to the run as well: code that is not the run's own is called within `preserved`. Nothing
in dltrain draws from the global generators of Python and NumPy; they are kept for user code.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class _Streams:
    """The named generators of this process's run."""

    def __init__(self) -> None:
        self.seed: int | None = None
        self.python: dict[str, random.Random] = {}
        self.torch: dict[str, torch.Generator] = {}  # by "name device"


_streams = _Streams()


def seed_all(seed: int) -> None:
    """Start a run: seed Python, NumPy and torch on every device, and drop the named generators."""
    torch.manual_seed(seed)
    _streams.seed = seed
    _streams.python.clear()
    _streams.torch.clear()
    undo_imports()


def undo_imports() -> None:
    """Seed the global generators of Python and NumPy again: imports may have drawn from them."""
    if _streams.seed is not None:
        random.seed(_streams.seed)
        # libraries draw from the legacy global generator
        np.random.seed(_streams.seed % 2**32)  # noqa: NPY002


def keyed(*key: int) -> torch.Generator:
    """Return a generator that is a function of `key`, such as (seed, epoch).

    Nearby keys give unrelated streams.
    """
    return torch.Generator().manual_seed(number(*key))


def number(*key: int) -> int:
    """Return a seed of 63 bits that is a function of `key`."""
    state = np.random.SeedSequence([k % 2**32 for k in key]).generate_state(1, np.uint64)[0]
    return int(state) >> 1


def _seed_after(name: str) -> int:
    """Return the seed of a global generator after the stream `name` has branched off."""
    return number(_streams.seed or 0, zlib.crc32(name.encode()))


def python_stream(name: str) -> random.Random:
    """Return the run's own Python generator of that name.

    It branches off the global generator when it is first requested: it continues with what that
    one would have drawn next, and the global one is seeded again. Request it when a stage begins,
    before anything else draws, and again in every step: loading a state in which it did not exist
    removes it. Its state is part of `state_dict`, so it is in every checkpoint.
    """
    if name not in _streams.python:
        stream = random.Random()
        stream.setstate(random.getstate())
        random.seed(_seed_after(name))
        _streams.python[name] = stream
    return _streams.python[name]


def torch_stream(name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the run's own torch generator of that name on a type of device, as `python_stream`."""
    device = torch.device(device)
    key = f"{name} {device.type}"
    if key not in _streams.torch:
        _streams.torch[key] = _branch(device, _seed_after(name))
    return _streams.torch[key]


def torch_streams(device: torch.device) -> list[torch.Generator]:
    """Return the run's named torch generators on a type of device."""
    return [stream for stream in _streams.torch.values() if stream.device.type == device.type]


def _branch(device: torch.device, seed: int) -> torch.Generator:
    """Return a generator in the state of the device's global one, and seed the global one."""
    if device.type not in ("cpu", "cuda"):  # the state of another device cannot be copied
        return torch.Generator(device).manual_seed(seed)
    default = torch.default_generator
    if device.type == "cuda":
        index = device.index
        if index is None:
            index = torch.cuda.current_device()
        default = torch.cuda.default_generators[index]
    stream = torch.Generator(device)
    stream.set_state(default.get_state())
    default.manual_seed(seed)
    return stream


def state_dict() -> dict[str, Any]:
    """Return the state of every generator, in tensors and plain types (for `weights_only=True`)."""
    kind, keys, pos, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "python": _python_state(random.getstate()),
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(pos),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "python_streams": {
            name: _python_state(stream.getstate()) for name, stream in _streams.python.items()
        },
        "torch_streams": {key: stream.get_state() for key, stream in _streams.torch.items()},
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def load_state_dict(state: dict[str, Any]) -> None:
    """Restore the state of every generator that `state_dict` returned.

    Named generators that it does not contain, as in earlier versions, branch off the global ones
    again when they are requested. The state of a device that this machine lacks is ignored.
    """
    random.setstate(_python_tuple(state["python"]))
    kind, keys, pos, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), pos, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    _streams.python = {name: random.Random() for name in state.get("python_streams", {})}
    for name, stream in _streams.python.items():
        stream.setstate(_python_tuple(state["python_streams"][name]))
    _load_torch_streams(state.get("torch_streams", {}))


def _load_torch_streams(states: Mapping[str, torch.Tensor]) -> None:
    """Restore the named torch generators, except those of devices that this machine lacks.

    Generators that exist stay the same objects: a recorded step draws from them.
    """
    earlier = _streams.torch
    _streams.torch = {}
    devices = _devices()
    for key, saved in states.items():
        device = key.rpartition(" ")[2]
        if device not in devices:
            continue
        if key not in earlier:
            earlier[key] = torch.Generator(device)
        _streams.torch[key] = earlier[key]
        _streams.torch[key].set_state(saved)


def _devices() -> tuple[str, ...]:
    """Return the types of device that this machine has."""
    accelerator = torch.accelerator.current_accelerator()
    return ("cpu",) if accelerator is None else ("cpu", accelerator.type)


def _python_state(state: tuple[Any, ...]) -> list[Any]:
    version, words, gauss = state
    return [version, torch.tensor(words, dtype=torch.int64), gauss]


def _python_tuple(saved: list[Any]) -> tuple[Any, ...]:
    version, words, gauss = saved
    return version, tuple(words.tolist()), gauss


def snapshot() -> Callable[[], None]:
    """Return a function that brings all generators back to the state that they have now."""
    python = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    seed = _streams.seed
    default = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    python_streams = {name: (stream, stream.getstate()) for name, stream in _streams.python.items()}
    torch_streams = {key: (stream, stream.get_state()) for key, stream in _streams.torch.items()}

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(default)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        _streams.seed = seed
        _streams.python = {}
        _streams.torch = {}
        for name, (stream, state) in python_streams.items():
            stream.setstate(state)
            _streams.python[name] = stream
        for key, (generator, saved) in torch_streams.items():
            generator.set_state(saved)
            _streams.torch[key] = generator

    return restore


class Generators:
    """The generators of one of several runs of this process that take turns.

    Those of Python and torch are global objects, whose states are exchanged. NumPy's and the named
    ones are exchanged themselves, as their states take longer. A new object has generators in an
    unknown state: a run seeds them when it starts.
    """

    def __init__(self) -> None:
        self.numpy: Any = np.random.MT19937()
        self.streams = _Streams()
        self._keep_states()

    def _keep_states(self) -> None:
        self.python = random.getstate()
        self.torch = torch.default_generator.get_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def keep(self) -> None:
        """Keep the generators as the run leaves them."""
        self._keep_states()
        self.numpy = np.random.mtrand.get_bit_generator()
        self.streams = _Streams()
        vars(self.streams).update(vars(_streams))

    def restore(self) -> None:
        """Let the process have the generators of the run."""
        random.setstate(self.python)
        np.random.mtrand.set_bit_generator(self.numpy)
        torch.default_generator.set_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        vars(_streams).update(vars(self.streams))


@contextmanager
def preserved() -> Iterator[None]:
    """Restore the generators after the block, as if it had drawn nothing."""
    restore = snapshot()
    try:
        yield
    finally:
        restore()


def preserving(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `call` and restores the generators after it."""

    @functools.wraps(call)
    def preserved_call(*args: Any) -> Any:
        with preserved():
            return call(*args)

    return preserved_call
