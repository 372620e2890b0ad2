"""Shows where gradients vanish or explode and which units no longer learn, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.types import Plot, PositiveInt, SequentialReader

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
SATURATION = 0.03  # closer than this to an end of its range, a sigmoid (0..1) or tanh (-1..1) hardly has a slope
Figures = dict[str, Tensor]


class Diagnosis(Callback):
    """Measures the second step of a run and each `every`-th after it; other steps have no hook and cost nothing.

    Of every layer with a weight of two or more dimensions the norm of its gradient; of every activation layer mean and
    standard deviation, for ReLU the share of dead units (0 for the whole batch; a unit is a feature, of an image a
    channel), for tanh and sigmoid the share of saturated values. They are shown as `diagnosis/...`. Among the metrics are
    `train/gradient_ratio`, the first layer's norm over the last one's in the order of definition, and the means over the
    layers `train/dead_units` and `train/saturated_units`. A stage ends with a plot of the norms of its first and last
    measured step. Activations called as functions, or inside a compiled model, are not seen.

    Of a recurrent network also the norm of the gradient at each of its inputs, by how many steps before the sequence's end
    it stands: `train/gradient_through_time` is that of the farthest over that of the last, and a second plot shows them
    all. Where it falls to nothing what was long ago is not learned from (Hochreiter 1991; Bengio et al. 1994).
    """

    name = "diagnosis"
    draws = False

    def __init__(self, log: MetricsLog, every: PositiveInt = 50) -> None:
        self.log, self.every = log, every
        self.handles: list[RemovableHandle] = []
        self.gradients: dict[
            str, Figures
        ] = {}  # {layer: {parameter: squared norm}} of the step under way
        self.activations: dict[str, Figures] = {}
        self.measured: dict[
            str, dict[str, float]
        ] = {}  # {"step 2": {layer: norm}}: the stage's first and last
        self.times: dict[
            str, Tensor
        ] = {}  # {layer: norms by steps before the end} of the step under way
        self.through_time: dict[
            str, list[float]
        ] = {}  # of the first recurrent network, as in `measured`

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
        """Watch the next step."""
        self.gradients, self.activations, self.times = {}, {}, {}
        scales = {id(p): o.scaler.get_scale() for o in engine.stage.optims for p in o.params}
        for name, module in engine.task.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if any(p.ndim > 1 for p in own.values()):
                for key, p in own.items():
                    if id(p) in scales:
                        hook = self.gradient_hook(name, key, scales[id(p)])
                        self.handles.append(p.register_post_accumulate_grad_hook(hook))
            if isinstance(module, ACTIVATIONS):
                self.handles.append(module.register_forward_hook(self.activation_hook(name)))
            if isinstance(module, SequentialReader):
                scale = next(iter(scales.values()), 1.0)
                through = self.time_hook(name, scale)
                self.handles.append(nn.Module.register_forward_pre_hook(module, through))  # type: ignore[arg-type]

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def gradient_hook(self, layer: str, key: str, scale: float) -> Callable[[Tensor], None]:
        """Keeps the squared norm of a parameter's gradient before it is clipped, without the loss scale."""

        def hook(p: Tensor) -> None:
            if p.grad is not None:
                gradient = (
                    p.grad.cpu().double() / scale
                )  # the square of a single that has vanished is 0
                self.gradients.setdefault(layer, {})[key] = gradient.square().sum()

        return hook

    def time_hook(self, layer: str, scale: float) -> Callable[[nn.Module, Any], Any]:
        """Keeps the norms of the gradient at a network's inputs by their distance to the end, of its last call."""

        def hook(module: nn.Module, args: Any) -> Any:
            steps, lengths = args[0], args[1] if len(args) > 1 else None
            if not module.training or not torch.is_grad_enabled():
                return None
            if (
                not steps.requires_grad
            ):  # a gradient goes back to parameters only: let it pass here on its way to one
                steps = steps + 0 * next(module.parameters()).flatten()[0]

            def keep(gradient: Tensor) -> None:
                self.times[layer] = by_distance(gradient.double() / scale, lengths).cpu()

            steps.register_hook(keep)
            return (steps, *args[1:])

        return hook

    def activation_hook(self, layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        """Keeps the figures of the last output of a layer in training."""

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training:
                self.activations[layer] = figures(module, output.detach().float())

        return hook

    def report(self, engine: Engine) -> None:
        """Hand the figures of the measured step to the log."""
        norms = {
            layer: float(sum(squares.values())) ** 0.5
            for layer, squares in self.in_order(engine).items()
        }
        shown = {f"diagnosis/gradient_norm/{layer}": norm for layer, norm in norms.items()}
        by_name: dict[str, list[float]] = {}
        for layer, found in self.activations.items():
            for name, value in found.items():
                shown[f"diagnosis/{name}/{layer}"] = float(value)
                by_name.setdefault(name, []).append(float(value))
        summary = {
            f"train/{n}": sum(v) / len(v)
            for n, v in by_name.items()
            if n in ("dead_units", "saturated_units")
        }
        if len(norms) > 1 and (last := list(norms.values())[-1]):
            summary["train/gradient_ratio"] = next(iter(norms.values())) / last
        for times in list(self.times.values())[:1]:
            self.through_time = {
                **dict([*self.through_time.items()][:1]),
                f"step {engine.step}": times.tolist(),
            }
            if float(times[0]):
                summary["train/gradient_through_time"] = float(times[-1] / times[0])
        self.log.show(engine, shown)
        if summary:
            self.log.write(engine, "train", summary)
        if norms:
            self.measured = dict([*self.measured.items()][:1]) | {f"step {engine.step}": norms}

    def in_order(self, engine: Engine) -> dict[str, Figures]:
        """The gradients by layer, the first defined first: they came from the last one backwards."""
        return {
            name: self.gradients[name]
            for name, _ in engine.task.named_modules()
            if name in self.gradients
        }

    def stage_end(self, engine: Engine) -> None:
        self.detach()
        lines = {
            step: (range(1, len(norms) + 1), [*norms.values()])
            for step, norms in self.measured.items()
        }
        title, x_title = f"Gradient norm by layer: {engine.stage.name}", "layer, from the input on"
        if lines:
            picture = Plot(lines, title, x_title, "norm of the gradient", log_y=True)
            self.log.show(engine, {"diagnosis/gradient_norms": picture})
        times = {step: (range(len(norms)), norms) for step, norms in self.through_time.items()}
        title, x_title = f"Gradient norm through time: {engine.stage.name}", "steps before the end"
        if times:
            picture = Plot(times, title, x_title, "norm of the gradient at an input", log_y=True)
            self.log.show(engine, {"diagnosis/gradient_through_time": picture})
        self.measured, self.through_time = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return {"measured": self.measured, "through_time": self.through_time}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.measured = dict(state.get("measured", {}))
        self.through_time = dict(state.get("through_time", {}))


def by_distance(gradient: Tensor, lengths: Tensor | None) -> Tensor:
    """Root mean squares (T,) of gradients (B, T, F) over the sequences, by how many steps before each one's end they stand;
    sequences that do not reach so far back are left out."""
    count, longest = gradient.shape[:2]
    if lengths is None:
        lengths = torch.full((count,), longest, device=gradient.device)
    at = lengths.unsqueeze(1) - 1 - torch.arange(longest, device=gradient.device)
    squares = gradient.square().sum(2).gather(1, at.clamp_min(0)) * (at >= 0)
    return (squares.sum(0) / (at >= 0).sum(0).clamp_min(1)).sqrt()[: int(lengths.max())]


def figures(module: nn.Module, output: Tensor) -> Figures:
    """What there is to say of an activation layer's output (B, C, ...) with units along C, or (B, T, F) along F."""
    found = {"activation_mean": output.mean(), "activation_std": output.std(correction=0)}
    if isinstance(module, nn.ReLU | nn.ReLU6):
        units = output.movedim(1 if output.ndim > 3 else -1, -1).flatten(0, -2)  # (values, units)
        found["dead_units"] = (units == 0).all(dim=0).float().mean()
    elif isinstance(module, nn.Tanh):
        found["saturated_units"] = (output.abs() > 1 - SATURATION).float().mean()
    elif isinstance(module, nn.Sigmoid):
        found["saturated_units"] = ((output - 0.5).abs() > 0.5 - SATURATION).float().mean()
    return found
