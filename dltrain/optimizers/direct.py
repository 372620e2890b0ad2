"""Adam, AdamW and SGD that call torch's fused kernels directly.

Around its kernel, torch's `step` takes about a tenth of a millisecond of Python for a small
network, nearly as long as the kernel. The classes here make the same calls of the same kernels, so
weights are equal to the last bit. Wherever a step is more than that (hooks, a loss scaler, a
profiler, parameters without a gradient, a first step, a rate that is a tensor), torch's own `step`
is called.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

Closure = Callable[[], Any]
Group = dict[str, Any]


class DirectStep(Optimizer):
    """An optimizer of torch whose step calls the fused kernel unless hooks or a scaler need more.

    Settings of a group other than its rate and its numbers must not change after the first step.
    """

    is_direct = False  # the state exists and fits the kernel

    @abstractmethod
    def fits(self, group: Group) -> bool:
        """Return whether the state and the settings of a group are what the kernel needs."""

    @abstractmethod
    def update(self, group: Group, gradients: list[Tensor]) -> None:
        """Call the kernel for the parameters of a group."""

    def step(self, closure: Closure | None = None) -> Any:
        """Update the parameters with their gradients."""
        gradients = None
        if closure is None and self.is_direct and is_bare(self):
            gradients = dense_gradients(self.param_groups)
        if gradients is None:
            return self._torch_step(closure)
        with torch.no_grad():
            for group, of_group in zip(self.param_groups, gradients, strict=True):
                self.update(group, of_group)
        return None

    def _torch_step(self, closure: Closure | None) -> Any:
        """Make torch's own step with its hooks, and see whether the next one can be direct."""
        step: Any = super().step
        if "hooked" in vars(
            step.__func__
        ):  # as in a process that has an optimizer of torch's class
            result = step(closure)
        else:
            hooked = Optimizer.profile_hook_step(lambda _, given: step(given))
            result = hooked(self, closure)
        self.is_direct = all(is_alike(group) and self.fits(group) for group in self.param_groups)
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; the next step is torch's own."""
        super().load_state_dict(state_dict)
        self.is_direct = False

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters; the next step is torch's own."""
        super().add_param_group(param_group)
        self.is_direct = False


DirectStep.step.hooked = True  # type: ignore[attr-defined]  # torch wraps no step that has this


def is_bare(optimizer: Optimizer) -> bool:
    """Return whether a step of the optimizer is nothing but its kernel."""
    has_hooks = (
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )
    is_scaled = "found_inf" in vars(optimizer)  # which a loss scaler sets for a step
    return not (has_hooks or is_scaled or torch.autograd.profiler._is_profiler_enabled)


def is_alike(group: Group) -> bool:
    """Return whether all parameters of a group have one device and type, as the kernels need."""
    kinds = {(param.device, param.dtype) for param in group["params"]}
    return len(kinds) == 1


def dense_gradients(groups: list[Group]) -> list[list[Tensor]] | None:
    """Return the gradients of each group; None if a parameter has none, or a sparse one."""
    gradients = []
    for group in groups:
        of_group = []
        for param in group["params"]:
            gradient = param.grad
            if gradient is None or gradient.is_sparse:
                return None
            of_group.append(gradient)
        gradients.append(of_group)
    return gradients


class DirectAdam(DirectStep, Adam):
    """Adam whose step calls the fused kernel."""

    def fits(self, group: Group) -> bool:
        """Return whether a group has moments, and needs no variant of the algorithm."""
        if not group["fused"] or group["amsgrad"] or isinstance(group["lr"], Tensor):
            return False
        return all("exp_avg" in self.state.get(param, {}) for param in group["params"])

    def update(self, group: Group, gradients: list[Tensor]) -> None:
        """Update the parameters of a group."""
        kernel = torch._fused_adam_
        if group["decoupled_weight_decay"]:
            kernel = torch._fused_adamw_
        states = [self.state[param] for param in group["params"]]
        steps = [state["step"] for state in states]
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, 1)
        kernel(
            group["params"],
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
            grad_scale=None,
            found_inf=None,
        )


class DirectAdamW(DirectAdam, AdamW):
    """AdamW whose step calls the fused kernel."""


class DirectSGD(DirectStep, SGD):
    """SGD, with or without momentum, whose step calls the fused kernel."""

    def fits(self, group: Group) -> bool:
        """Return whether a group has what its momentum needs."""
        if not group["fused"] or isinstance(group["lr"], Tensor):
            return False
        if not group["momentum"]:
            return True
        states = [self.state.get(param, {}) for param in group["params"]]
        return all(state.get("momentum_buffer") is not None for state in states)

    def update(self, group: Group, gradients: list[Tensor]) -> None:
        """Update the parameters of a group."""
        buffers = []
        if group["momentum"]:
            buffers = [self.state[param]["momentum_buffer"] for param in group["params"]]
        torch._fused_sgd_(
            group["params"],
            gradients,
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=False,
            grad_scale=None,
            found_inf=None,
        )
