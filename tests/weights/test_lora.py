"""LoRA: products beside linear layers, what is trained, checkpoints, merging, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dltrain.config.settings import Lora
from dltrain.models.text.transformer import TransformerClassifier, TransformerLanguageModel
from dltrain.models.text.transformer_seq2seq import TransformerSeq2Seq
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import RunFolder
from dltrain.runs.open import open_trained
from dltrain.weights.export import plain_weights
from dltrain.weights.freezing import trainable_parameters
from dltrain.weights.lora import LoraLinear, add_adapters, merged_weights

Command = Callable[..., Any]
TOKENS = torch.randint(4, 20, (3, 7), generator=torch.Generator().manual_seed(0))


def language_model(**settings: Any) -> TransformerLanguageModel:
    torch.manual_seed(1)
    return TransformerLanguageModel(20, 7, num_layers=2, dim=8, num_heads=2, **settings)


def classifier() -> TransformerClassifier:
    torch.manual_seed(1)
    return TransformerClassifier((7,), 3, 20, num_layers=1, dim=8, num_heads=2, dropout=0.0)


def translator() -> TransformerSeq2Seq:
    torch.manual_seed(1)
    return TransformerSeq2Seq(20, 20, 7, 7, num_layers=1, dim=8, num_heads=2, dropout=0.0)


class Projection(nn.Module):
    """A network that uses a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight[:3])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "language model": (language_model, (TOKENS,)),
    "rotary": (lambda: language_model(positions="rotary"), (TOKENS,)),
    "classifier": (classifier, (TOKENS,)),
    "translator": (translator, (TOKENS, TOKENS)),
    "multi-head attention of torch": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0),
        (torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)),),
    ),
    "a part of a weight": (Projection, (torch.ones(2, 4),)),
}

# Networks that use weights without calling the layers; the sum has memory of its own, so that a
# product of matrices may be added up in another order.
BY_WEIGHT = ("translator", "multi-head attention of torch", "a part of a weight")


def outputs_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    outputs = network(*inputs)
    first: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return first


def randomize(network: nn.Module) -> None:
    """Give every product a value, as training does."""
    generator = torch.Generator().manual_seed(2)
    for name, p in network.named_parameters():
        if name.endswith("lora_b"):
            with torch.no_grad():
                p.copy_(torch.randn(p.shape, generator=generator))


@pytest.mark.parametrize("name", NETWORKS)
def test_products_begin_at_zero_and_can_be_merged(name: str) -> None:
    """Every layer takes part: with random products, outputs differ from those of the base."""
    make, inputs = NETWORKS[name]
    base, network = make(), make()
    network.load_state_dict(base.state_dict())
    add_adapters(network, Lora(rank=2, alpha=3.0))
    tolerance = 1e-6 if name in BY_WEIGHT else 0.0
    torch.testing.assert_close(
        outputs_of(network, inputs), outputs_of(base, inputs), atol=tolerance, rtol=0
    )
    randomize(network)
    outputs = outputs_of(network, inputs)
    assert not torch.allclose(outputs, outputs_of(base, inputs), atol=1e-2)
    merged = make()
    merged.load_state_dict(plain_weights(network))
    torch.testing.assert_close(outputs_of(merged, inputs), outputs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "a part of a weight"])
def test_every_product_is_trained_and_nothing_else(name: str) -> None:
    make, inputs = NETWORKS[name]
    network = make()
    adapters = add_adapters(network, Lora(rank=2))
    randomize(network)
    outputs_of(network, inputs).square().sum().backward()
    trained = trainable_parameters(network)
    assert set(trained) == {f"{n}.lora_{m}" for n in adapters.layers for m in ("a", "b")}
    for parameter_name, p in network.named_parameters():
        has_gradient = p.grad is not None and bool(p.grad.abs().sum() > 0)
        assert has_gradient == (parameter_name in trained), parameter_name


def test_the_product_has_the_papers_scale_and_rank() -> None:
    layer = LoraLinear(nn.Linear(5, 4), rank=2, alpha=6.0, dropout=0.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(3, 5)
    by_hand = x @ layer.original.T + layer.bias + 3.0 * (x @ layer.lora_a.T) @ layer.lora_b.T
    torch.testing.assert_close(layer(x), by_hand)
    assert layer.lora_a.shape == (2, 5)
    assert layer.lora_b.shape == (4, 2)


def test_dropout_changes_the_product_alone() -> None:
    layer = LoraLinear(nn.Linear(50, 4), rank=2, alpha=2.0, dropout=0.5)
    x = torch.ones(1, 50)
    assert torch.equal(layer(x), layer(x))  # the product is zero
    nn.init.normal_(layer.lora_b)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_an_output_layer_that_shares_the_embeddings_is_left_alone() -> None:
    names = add_adapters(language_model(), Lora(rank=1)).layers
    assert "output" not in names
    assert "output" in add_adapters(language_model(tied=False), Lora(rank=1)).layers
    with pytest.raises(ValueError, match="output matches no linear layer"):
        add_adapters(language_model(), Lora(rank=1, targets=["output"]))


def test_targets_and_further_parameters_are_chosen_by_name() -> None:
    network = classifier()
    settings = Lora(rank=1, targets=["*attention.project"], train=["output", "*norm*"])
    adapters = add_adapters(network, settings)
    assert adapters.layers == ["stack.blocks.0.attention.project"]
    trained = set(trainable_parameters(network))
    assert {"output.weight", "output.bias", "stack.norm.weight"} <= trained
    assert "stack.blocks.0.mlp.1.weight" not in trained
    count = sum(p.numel() for p in trainable_parameters(network).values())
    assert adapters.trained == count < adapters.total


def test_merging_a_state_without_products_changes_nothing() -> None:
    state = language_model().state_dict()
    assert merged_weights(state).keys() == state.keys()
    assert all(merged_weights(state)[name] is state[name] for name in state)


# --- Runs

LM = (
    *("dataset=language_modeling", "dataset.path=text.txt", "dataset.length=8"),
    *("dataset.batch_size=8", "dataset.tokenizer=byte", "model.num_layers=1", "model.dim=8"),
    *("model.num_heads=2", "task.sample_tokens=0", "callbacks=quiet", "trainer.epochs=1", "--json"),
)


@pytest.fixture
def base(dltrain: Command) -> Path:
    """A run of a small language model on text.txt."""
    Path("text.txt").write_text("the cat sat on the mat and the dog ran to the cat\n" * 40)
    return run_of(dltrain(*LM))


def run_of(outcome: Any) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def weights_of(run: Path) -> dict[str, Tensor]:
    folder = Store(run / "checkpoints").pointed("last")
    assert folder is not None
    state: dict[str, Tensor] = checkpoint.load(folder)["task"]
    return state


def test_a_run_trains_the_products_of_another_runs_network(base: Path, dltrain: Command) -> None:
    outcome = dltrain(*LM, f"init.from={base.name}", "lora.rank=2", "regularization=[ema]")
    run = run_of(outcome)
    assert "parameters are trained" in (run / "train.log").read_text()
    before, after = weights_of(base), weights_of(run)
    same = {n for n, v in before.items() if torch.equal(after[n], v)}
    moved = set(after) - same
    assert moved
    assert all(".lora_" in name for name in moved)
    assert set(before) <= set(after)


def test_what_is_exported_is_the_merged_network(base: Path, dltrain: Command) -> None:
    run = run_of(dltrain(*LM, f"init.from={base.name}", "lora.rank=2", "optimizer.lr=0.1"))
    outcome = dltrain("export", str(run), "--format", "safetensors", "--out", "x.safetensors")
    assert outcome.code == 0, outcome.err
    exported = safetensors.torch.load_file("x.safetensors")
    plain = open_trained(RunFolder(base), [], "best").model
    adapted = open_trained(RunFolder(run), [], "best").model
    assert exported.keys() == plain.state_dict().keys()
    tokens = torch.randint(4, 100, (2, 8))
    plain.eval()
    adapted.eval()
    before = plain(tokens)[0]
    plain.load_state_dict(exported)
    torch.testing.assert_close(plain(tokens)[0], adapted(tokens)[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain(tokens)[0], before, atol=1e-3)


def test_a_run_begins_with_the_merged_weights_of_an_adapted_one(
    base: Path, dltrain: Command
) -> None:
    run = run_of(dltrain(*LM, f"init.from={base.name}", "lora.rank=2", "optimizer.lr=0.1"))
    still = ("optimizer=sgd", "optimizer.lr=1e-30")
    later = weights_of(run_of(dltrain(*LM, *still, f"init.from={run.name}")))
    merged = merged_weights(weights_of(run))
    assert later.keys() == merged.keys() == weights_of(base).keys()
    assert all(torch.equal(later[name], merged[name]) for name in merged)
    twice = weights_of(run_of(dltrain(*LM, *still, f"init.from={run.name}", "lora.rank=1")))
    assert torch.equal(
        twice["model.stack.blocks.0.mlp.1.weight"], merged["model.stack.blocks.0.mlp.1.weight"]
    )


def test_a_resumed_run_is_the_uninterrupted_one(base: Path, dltrain: Command) -> None:
    words = (*LM, f"init.from={base.name}", "lora.rank=2", "lora.dropout=0.2", "schedule=constant")
    part = run_of(dltrain(*words))
    whole = run_of(dltrain(*words, "trainer.epochs=2"))
    longer = run_of(dltrain("resume", str(part), "trainer.epochs=2", "--json"))
    assert (whole / "metrics.jsonl").read_text() == (longer / "metrics.jsonl").read_text()
    assert dltrain("evaluate", str(longer)).code == 0


def test_layers_are_frozen_beside_lora(base: Path, dltrain: Command) -> None:
    words = (f"init.from={base.name}", "lora.rank=1", "freeze=[stack.blocks.0.mlp]")
    run = run_of(dltrain(*LM, *words, "lr_factors={*attention*: 0.5}"))
    fresh = [v for n, v in weights_of(run).items() if "mlp" in n and n.endswith("lora_b")]
    assert fresh
    assert not any(value.any() for value in fresh)


def test_another_vocabulary_is_refused(base: Path, dltrain: Command) -> None:
    words = [word for word in LM if word != "dataset.tokenizer=byte"]
    trained = run_of(dltrain(*words, "dataset.vocab_size=30"))
    Path("text.txt").write_text("she sells sea shells by the sea shore\n" * 40)
    adapted = (f"init.from={trained.name}", "dataset.vocab_size=30")
    outcome = dltrain(*words, *adapted, "lora.rank=1")
    assert outcome.code == 3
    assert "another vocabulary" in outcome.err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["lora.rank=2"], "init.from=RUN"),
        (["lora.rank=0"], "lora.rank"),
        (["lora.rank=2", "init.from=last", "lora.targets=[nope]"], "nope matches no linear layer"),
        (["lora.rank=2", "init.from=last", "lora.train=[nope]"], "nope matches no parameter"),
        (["lora.rnk=2"], "lora.rank"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_settings_are_refused(
    overrides: list[str], words: str, base: Path, dltrain: Command
) -> None:
    outcome = dltrain(*LM, *overrides)
    assert outcome.code == 2
    assert words in outcome.err


def test_the_manifest_counts_what_is_trained(base: Path, dltrain: Command) -> None:
    run = run_of(dltrain(*LM, f"init.from={base.name}", "lora.rank=1"))
    manifest = json.loads((run / "manifest.json").read_text())
    products = [v for n, v in weights_of(run).items() if n.endswith(("lora_a", "lora_b"))]
    assert manifest["effective"]["parameters"] == sum(v.numel() for v in products)
    assert manifest["initial_runs"] == {"init.from": str(base.absolute())}
