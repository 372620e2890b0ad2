"""Compare the latency and the size of networks before and after quantization.

    python -m benchmarks.quantization [NAME ...]

Each row is a network with fresh weights, calibrated on random inputs: bytes of the weights before
and after, and the median milliseconds at batch sizes 1 and 64, one thread, both networks in turns
in one process. No data is needed. Accuracies are those of the experiments, docs/quantization.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dltrain.models.images.cnn import CNN
from dltrain.models.images.resnet import SmallResNet
from dltrain.models.mlp import MLP
from dltrain.models.text.recurrent import Recurrent
from dltrain.models.text.transformer import TransformerClassifier, TransformerLanguageModel
from dltrain.tasks.compression.quantizing.comparing import (
    BATCH_SIZES,
    latencies,
    of_size,
    stored_bytes,
)
from dltrain.tasks.compression.quantizing.quantizer import Quantizer, QuantizerSettings

MAKERS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn_mnist": ("static", lambda: CNN(1, (28, 28), 10), (1, 28, 28)),
    "cifar10_cnn": ("static", lambda: CNN(3, (32, 32), 10, (64, 128, 256)), (3, 32, 32)),
    "resnet_small": ("static", lambda: SmallResNet(3, (32, 32), 10), (3, 32, 32)),
    "mlp": ("dynamic", lambda: MLP(784, 10, (1024, 1024)), (1, 28, 28)),
    "lstm_imdb": ("dynamic", lambda: lstm(64), (600,)),
    "lstm, 128 hidden units": ("dynamic", lambda: lstm(128), (600,)),
    "transformer": ("dynamic", lambda: TransformerClassifier((200,), 2, 20_000, dim=128), (200,)),
    "transformer_lm, int4": ("int4", lambda: TransformerLanguageModel(64, 64), (64,)),
}


def lstm(hidden_size: int) -> nn.Module:
    """Return the network of lstm_imdb, with a number of hidden units."""
    return Recurrent((600,), 2, 20_000, "lstm", 32, hidden_size)


def answer(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of a network, without the state of a language model."""
    with torch.no_grad():
        outputs = model(inputs)
    return outputs[0] if isinstance(outputs, tuple) else outputs


def row(name: str) -> str:
    """Return the figures of one network as a row of a table."""
    method, make, shape = MAKERS[name]
    torch.manual_seed(0)
    inputs = torch.randn(64, *shape)
    if len(shape) == 1:
        inputs = torch.randint(2, 64, (64, *shape))
    model = make().eval()
    quantizer = Quantizer(model, QuantizerSettings(method))  # type: ignore[arg-type]
    quantizer.prepare(lambda: answer(model, inputs))
    with quantizer.observing():
        answer(model, inputs)
    quantizer.keep_reference()
    quantizer.convert()
    assert quantizer.reference is not None
    networks = [quantizer.reference, model]
    before, after = map(stored_bytes, networks)
    cells = [name, method, f"{before:,}", f"{after:,} ({after / before:.2f})"]
    for size in BATCH_SIZES:
        slow, fast = latencies(networks, of_size(inputs, size), answer)
        cells += [f"{slow:.2f} → {fast:.2f} ms ({slow / fast:.1f}x)"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", default=list(MAKERS), help="networks to measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| network | method | bytes | quantized | batch 1 | batch 64 |\n|---|---|---|---|---|---|"
    )
    for name in options.names:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
