"""Shows layer by layer where gradients vanish or explode, and which units no longer learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.types import Plot, PositiveInt, SequentialReader

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
# this close to an end of its range, a sigmoid (0..1) or tanh (-1..1) is nearly flat
SATURATION = 0.03
SUMMARIZED = {"dead_units", "saturated_units"}  # of an activation layer, at most one
Figures = dict[str, Tensor]
T = TypeVar("T")


class Diagnosis(Callback):
    """Measures gradients and activations in the second step of a run and each `every`-th after it.

    Other steps have no hooks and cost nothing. The values are shown as `diagnosis/...`:

    * for each layer with a weight of two or more dimensions, the norm of its gradient
    * for each activation layer, mean and standard deviation; for ReLU the fraction of dead units
      (0 for the whole batch; a unit is a feature, or a channel of an image); for tanh and sigmoid
      the fraction of saturated values

    Among the metrics are `train/gradient_ratio`, the first layer's norm divided by the last one's
    in the order of definition, and the means over the layers `train/dead_units` and
    `train/saturated_units`. A stage ends with a plot of the norms of its first and last measured
    step. Activations that are called as functions, or within a compiled model, are not measured.

    For a recurrent network it also measures the norm of the gradient at each input, by its distance
    from the end of the sequence: `train/gradient_through_time` is the norm of the farthest divided
    by that of the last, and a second plot shows them all. Where it falls to 0, the network does not
    learn from inputs long ago (Hochreiter 1991; Bengio et al. 1994).
    """

    name = "diagnosis"
    draws = False

    def __init__(self, log: MetricsLog, every: PositiveInt = 50) -> None:
        self.log = log
        self.every = every
        self.handles: list[RemovableHandle] = []
        # of the step that is measured, by layer
        self.gradients: dict[str, Figures] = {}  # the squared norm for each parameter
        self.activations: dict[str, Figures] = {}
        self.times: dict[str, Tensor] = {}  # norms by distance from the end of the sequence
        # of the first and the last measured step of the stage, by "step 2"
        self.measured: dict[str, dict[str, float]] = {}  # the norm for each layer
        self.through_time: dict[str, list[float]] = {}  # `times` of the first recurrent network

    def step_end(self, engine: Engine) -> None:
        if self.handles:
            self.detach()
            self.report(engine)
        if (engine.step - 1) % self.every == 0:
            self.attach(engine)

    def resumed(self, engine: Engine) -> None:
        if engine.step and (engine.step - 1) % self.every == 0:
            self.attach(engine)

    def attach(self, engine: Engine) -> None:
        """Measure the next step."""
        self.gradients = {}
        self.activations = {}
        self.times = {}
        scales = {id(p): o.scaler.get_scale() for o in engine.stage.optims for p in o.params}
        for name, module in engine.task.named_modules():
            self._attach_to_gradients(name, module, scales)
            if isinstance(module, ACTIVATIONS):
                self.handles.append(module.register_forward_hook(self.activation_hook(name)))
            if isinstance(module, SequentialReader):
                scale = next(iter(scales.values()), 1.0)
                through = self.time_hook(name, scale)
                self.handles.append(nn.Module.register_forward_pre_hook(module, through))  # type: ignore[arg-type]

    def _attach_to_gradients(self, name: str, module: nn.Module, scales: dict[int, float]) -> None:
        """Measure the gradients of a layer that has a weight of two or more dimensions."""
        own = dict(module.named_parameters(recurse=False))
        if not any(p.ndim > 1 for p in own.values()):
            return
        for key, p in own.items():
            if id(p) in scales:
                hook = self.gradient_hook(name, key, scales[id(p)])
                self.handles.append(p.register_post_accumulate_grad_hook(hook))

    def detach(self) -> None:
        """Remove all hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def gradient_hook(self, layer: str, key: str, scale: float) -> Callable[[Tensor], None]:
        """Return a hook that keeps the squared norm of a gradient, before it is clipped.

        `scale` is the scale of the loss, which the norm is divided by.
        """

        def hook(p: Tensor) -> None:
            if p.grad is not None:
                # in double precision: the square of a small single-precision number is 0
                gradient = p.grad.cpu().double() / scale
                self.gradients.setdefault(layer, {})[key] = gradient.square().sum()

        return hook

    def time_hook(self, layer: str, scale: float) -> Callable[[nn.Module, Any], Any]:
        """Return a hook that keeps the norms of the gradient at the inputs of the last call."""

        def hook(module: nn.Module, args: Any) -> Any:
            if not module.training or not torch.is_grad_enabled():
                return None
            steps = args[0]
            lengths = args[1] if len(args) > 1 else None
            if not steps.requires_grad:  # a parameter times 0 makes a gradient flow to the inputs
                steps = steps + 0 * next(module.parameters()).flatten()[0]

            def keep(gradient: Tensor) -> None:
                self.times[layer] = by_distance(gradient.double() / scale, lengths).cpu()

            steps.register_hook(keep)
            return (steps, *args[1:])

        return hook

    def activation_hook(self, layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        """Return a hook that keeps the figures of a layer's last output in training."""

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training:
                self.activations[layer] = figures(module, output.detach().float())

        return hook

    def report(self, engine: Engine) -> None:
        """Pass the values of the measured step to the log."""
        step = f"step {engine.step}"
        norms = {
            layer: float(sum(squares.values())) ** 0.5
            for layer, squares in self.in_order(engine).items()
        }
        shown = {f"diagnosis/gradient_norm/{layer}": norm for layer, norm in norms.items()}
        for layer, values in self.activations.items():
            for name, value in values.items():
                shown[f"diagnosis/{name}/{layer}"] = float(value)
        summary = self._activation_means()
        if len(norms) > 1:
            first, *_, last = norms.values()
            if last:
                summary["train/gradient_ratio"] = first / last
        if self.times:
            summary.update(self._through_time(step))
        self.log.show(engine, shown)
        if summary:
            self.log.write(engine, "train", summary)
        if norms:
            self.measured = first_and_last(self.measured, step, norms)

    def _through_time(self, step: str) -> dict[str, float]:
        """Keep the norms of the first recurrent network; return farthest divided by last."""
        times = next(iter(self.times.values()))
        self.through_time = first_and_last(self.through_time, step, times.tolist())
        if not float(times[0]):
            return {}
        return {"train/gradient_through_time": float(times[-1] / times[0])}

    def _activation_means(self) -> dict[str, float]:
        """Return the means over the layers of the fractions of dead and of saturated units."""
        by_name: dict[str, list[float]] = {}
        for values in self.activations.values():
            for name in SUMMARIZED.intersection(values):
                by_name.setdefault(name, []).append(float(values[name]))
        return {f"train/{name}": sum(values) / len(values) for name, values in by_name.items()}

    def in_order(self, engine: Engine) -> dict[str, Figures]:
        """Return the gradients by layer, in the order of definition."""
        return {
            name: self.gradients[name]
            for name, _ in engine.task.named_modules()
            if name in self.gradients
        }

    def stage_end(self, engine: Engine) -> None:
        self.detach()
        name = engine.stage.name
        if self.measured:
            lines = {
                step: (range(1, len(norms) + 1), list(norms.values()))
                for step, norms in self.measured.items()
            }
            plot = Plot(
                lines,
                f"Gradient norm by layer: {name}",
                "layer, from the input on",
                "norm of the gradient",
                log_y=True,
            )
            self.log.show(engine, {"diagnosis/gradient_norms": plot})
        if self.through_time:
            lines = {step: (range(len(norms)), norms) for step, norms in self.through_time.items()}
            plot = Plot(
                lines,
                f"Gradient norm through time: {name}",
                "steps before the end",
                "norm of the gradient at an input",
                log_y=True,
            )
            self.log.show(engine, {"diagnosis/gradient_through_time": plot})
        self.measured = {}
        self.through_time = {}

    def state_dict(self) -> dict[str, Any]:
        return {"measured": self.measured, "through_time": self.through_time}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.measured = dict(state.get("measured", {}))
        self.through_time = dict(state.get("through_time", {}))


def first_and_last(steps: dict[str, T], step: str, values: T) -> dict[str, T]:
    """Return the first of the measured `steps`, and the new one."""
    first = dict(list(steps.items())[:1])
    return {**first, step: values}


def by_distance(gradient: Tensor, lengths: Tensor | None) -> Tensor:
    """Return root mean squares (T,) of gradients (B, T, F), by distance from the sequence's end.

    `lengths` (B,) are those of the sequences; None for all of length T. The mean is over the
    sequences that are long enough.
    """
    count, longest = gradient.shape[:2]
    if lengths is None:
        lengths = torch.full((count,), longest, device=gradient.device)
    steps = torch.arange(longest, device=gradient.device)
    position = lengths.unsqueeze(1) - 1 - steps  # (B, T), negative before the start
    is_within = position >= 0
    squares = gradient.square().sum(2).gather(1, position.clamp_min(0)) * is_within
    means = squares.sum(0) / is_within.sum(0).clamp_min(1)
    return means.sqrt()[: int(lengths.max())]


def figures(module: nn.Module, output: Tensor) -> Figures:
    """Return the figures of an activation layer.

    `output` is (B, C, H, W) with a unit for each channel, or (B, T, F) or (B, F) with one for each
    feature.
    """
    values = {"activation_mean": output.mean(), "activation_std": output.std(correction=0)}
    if isinstance(module, nn.ReLU | nn.ReLU6):
        unit_dimension = 1 if output.ndim > 3 else -1
        units = output.movedim(unit_dimension, -1).flatten(0, -2)  # (values, units)
        values["dead_units"] = (units == 0).all(dim=0).float().mean()
    elif isinstance(module, nn.Tanh):
        values["saturated_units"] = (output.abs() > 1 - SATURATION).float().mean()
    elif isinstance(module, nn.Sigmoid):
        values["saturated_units"] = ((output - 0.5).abs() > 0.5 - SATURATION).float().mean()
    return values
