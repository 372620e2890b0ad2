"""Fine-tuning by LoRA, as the top-level setting `lora` asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import nn

from dltrain.config.settings import Lora
from dltrain.device import Device
from dltrain.errors import ConfigError, InputError
from dltrain.types import Data
from dltrain.weights.initial import InitialWeights
from dltrain.weights.lora import add_adapters

log = logging.getLogger("dltrain")
NOTHING_TO_ADAPT = (
    "adapts a trained network, and this run begins with random weights: set init.from=RUN or "
    "init.weights"
)
NOT_DIVISIBLE = (
    "lora.rank adds to weights that are not divided among processes: set device.parallel=ddp"
)


def lora_settings(config: dict[str, Any]) -> Lora:
    """Return the setting `lora`; a configuration of an earlier version has none."""
    return Lora(**(config.get("lora") or {}))


def adapt(config: dict[str, Any], model: nn.Module, device: Device) -> None:
    """Give the linear layers of `model` their products, if lora.rank is set, and log it.

    Raises:
        ConfigError: There is no layer to adapt, no trained weights, or networks are divided among
            processes.
    """
    settings = lora_settings(config)
    if settings.rank is None:
        return
    init = config.get("init", {})
    begins_trained = init.get("from") is not None or init.get("weights") is not None
    if not begins_trained and config["debug"] != "smoke":
        raise ConfigError([(f"lora.rank={settings.rank}", NOTHING_TO_ADAPT)])
    if device.parallel == "fsdp" and device.num_processes() > 1:
        raise ConfigError([("device.parallel=fsdp", NOT_DIVISIBLE)])
    try:
        adapters = add_adapters(model, settings)
    except ValueError as e:
        raise ConfigError([("lora", str(e))]) from e
    log.info(adapters.message(settings.rank))


def require_known_tokens(
    config: dict[str, Any],
    weights: InitialWeights,
    data: Data,
    described: Callable[[], dict[str, Any]],
) -> None:
    """Refuse or report initial weights of texts whose tokens have other numbers than here.

    A frozen network cannot learn them again; another one is only slow to. `described` returns the
    description of the data.

    Raises:
        InputError: The network is adapted by LoRA.
    """
    if not data.spec.vocab_size:
        return
    description = described()
    different = [k for k, v in weights.vocabularies.items() if description.get(k) != v]
    if not different:
        return
    why = (
        f"{weights.key}: {weights.source} has another vocabulary ({', '.join(different)}), so its "
        "token numbers mean other tokens here"
    )
    if lora_settings(config).rank is not None:
        raise InputError(
            f"{why}, and lora.rank freezes the embeddings; train both with the same vocabulary, "
            "such as dataset.tokenizer=byte"
        )
    log.warning(why)
