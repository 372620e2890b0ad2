"""What `dataset.balance` asks of the loss."""

from __future__ import annotations

from typing import Any

from dltrain.config.nodes import TARGET
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.errors import ConfigError

CROSS_ENTROPY, FOCAL = "dltrain.losses.CrossEntropy", "dltrain.losses.Focal"
WEIGHTS = "class_weights"


def balanced_loss(
    config: dict[str, Any], has_classes: bool, settings: dict[str, Any]
) -> dict[str, Any]:
    """The node of the loss that `config` means, whose own `settings` are those of regularization.

    weights gives a loss that takes them balanced class weights; focal makes cross-entropy the focal loss (gamma 2, or
    that of loss=focal), with such weights too. ConfigError where the rest of the configuration says otherwise.
    """
    node: dict[str, Any] = config["loss"]
    balance = config["dataset"].get("balance", "none")
    if balance == "none":
        return node

    def refuse(why: str) -> ConfigError:
        return ConfigError([(f"dataset.balance={balance}", why)])

    if not has_classes:
        raise refuse("the data has no classes; balance=none is for it")
    if balance == "sampler":
        return node
    plugins = config["plugins"]
    task = config["task"]
    if "loss" not in arguments(locate(task[TARGET], plugins)) or "loss" in task:
        raise refuse(
            f"{task[TARGET].rpartition('.')[2]} has a loss of its own: balance=sampler does without"
        )
    name = node[TARGET].rpartition(".")[2]
    if balance == "focal" and node[TARGET] == CROSS_ENTROPY:
        if node.get("label_smoothing") or settings.get("label_smoothing"):
            raise refuse(
                "the focal loss has no label smoothing: leave that out, or balance=weights"
            )
        weights = node.get(WEIGHTS)
        node = {TARGET: FOCAL, **({WEIGHTS: weights} if weights is not None else {})}
    elif balance == "focal" and node[TARGET] != FOCAL:
        raise refuse(
            f"the loss is {name}: leave loss= out, or balance=sampler, which goes with every loss"
        )
    if WEIGHTS not in arguments(locate(node[TARGET], plugins)):
        raise refuse(
            f"{name} takes no class weights: loss=cross_entropy, or balance=sampler, which goes with every loss"
        )
    if node.get(WEIGHTS) not in (None, "balanced"):
        raise refuse(f"loss.{WEIGHTS} sets weights already: leave one of both out")
    return {**node, WEIGHTS: "balanced"}
