"""Changes the loss for data with rare classes, as `dataset.balance` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dltrain.config.checking.nodes import TARGET, plugins_of
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.errors import ConfigError

CROSS_ENTROPY = "dltrain.losses.CrossEntropy"
FOCAL = "dltrain.losses.Focal"
WEIGHTS = "class_weights"


def balanced_loss(
    config: dict[str, Any], has_classes: bool, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the node of the loss, changed as `dataset.balance` says.

    balance=weights sets balanced class weights. balance=focal replaces cross-entropy by the focal
    loss (gamma 2) and sets balanced class weights too; a loss=focal keeps its own gamma.

    Args:
        config: the configuration.
        has_classes: True if the targets of the data are classes.
        settings: the arguments of the loss that regularizers set, such as label_smoothing.

    Raises:
        ConfigError: the data, the task or the loss does not support the balance.
    """
    node: dict[str, Any] = config["loss"]
    balance = config["dataset"].get("balance", "none")
    if balance == "none":
        return node
    balancing = _Balancing(config, balance)
    if not has_classes:
        raise balancing.error("the data has no classes to balance; leave dataset.balance out")
    if balance == "sampler":
        return node
    balancing.check_task()
    if balance == "focal":
        node = balancing.focal(node, settings)
    return balancing.with_weights(node)


@dataclass
class _Balancing:
    config: dict[str, Any]
    balance: str

    def error(self, why: str) -> ConfigError:
        return ConfigError([(f"dataset.balance={self.balance}", why)])

    def takes(self, node: dict[str, Any], name: str) -> bool:
        """Return True if the target of a node has an argument."""
        return name in arguments(locate(node[TARGET], plugins_of(self.config)))

    def check_task(self) -> None:
        """Raise ConfigError for a task that does not use the chosen loss."""
        task = self.config["task"]
        if self.takes(task, "loss") and "loss" not in task:
            return
        name = _class_name(task)
        raise self.error(
            f"{name} has a loss of its own, which takes no class weights: set balance=sampler"
        )

    def focal(self, node: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Return the node of the focal loss."""
        if node[TARGET] == FOCAL:
            return node
        if node[TARGET] != CROSS_ENTROPY:
            why = f"the loss is {_class_name(node)}: leave loss= out, or set balance=sampler, "
            raise self.error(f"{why}which works with every loss")
        if node.get("label_smoothing") or settings.get("label_smoothing"):
            why = "the focal loss has no label smoothing: leave that out, or set balance=weights"
            raise self.error(why)
        weights = node.get(WEIGHTS)
        if weights is None:
            return {TARGET: FOCAL}
        return {TARGET: FOCAL, WEIGHTS: weights}

    def with_weights(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the node with balanced class weights."""
        if not self.takes(node, WEIGHTS):
            why = f"{_class_name(node)} takes no class weights: set loss=cross_entropy, "
            raise self.error(f"{why}or balance=sampler, which works with every loss")
        if node.get(WEIGHTS) not in (None, "balanced"):
            raise self.error(f"loss.{WEIGHTS} sets weights already: leave one of the two out")
        return {**node, WEIGHTS: "balanced"}


def _class_name(node: dict[str, Any]) -> str:
    return str(node[TARGET]).rpartition(".")[2]
