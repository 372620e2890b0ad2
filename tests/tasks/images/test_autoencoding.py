"""Autoencoding: errors, learning, corruption, variational codes, refusals."""

from __future__ import annotations

import csv
import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from dltrain.data.images.digits import Digits
from dltrain.data.images.in_memory import InMemory
from dltrain.data.images.synthetic import Synthetic
from dltrain.metrics import LinearCodes
from dltrain.models.autoencoder import Autoencoder
from dltrain.models.images.convolutional_autoencoder import ConvolutionalAutoencoder
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.rng import keyed
from dltrain.tasks.images.autoencoding import Autoencoding, kl_from_standard_normal, squared_error
from dltrain.tasks.noise import InBlocks, normal, uniform


def images(scaling: Any = "unit") -> InMemory:
    return InMemory(Synthetic(1, 8, 8, 3, 64, 32), 16, val_fraction=0.25, scaling=scaling)


def made(
    scaling: Any = "unit", variational: bool = False, code_size: int = 4, **settings: Any
) -> Any:
    torch.manual_seed(0)
    model = Autoencoder(1, (8, 8), (32,), code_size, variational=variational)
    optim = lambda modules, steps: Optim(modules, functools.partial(adam, lr=0.01))  # noqa: E731
    return Autoencoding(images(scaling), model, optim, 3, **settings)


def scores(task: Any) -> dict[str, Any]:
    task.eval()
    with torch.no_grad():
        found: dict[str, Any] = task.evaluate(task.data.val.epoch(0))
    return found


def test_the_error_is_of_pixels_in_0_to_1_for_any_scaling() -> None:
    plain, standardized = made("unit"), made("standardize")
    (x, _), (z, _) = next(plain.data.val.epoch(0)), next(standardized.data.val.epoch(0))
    torch.testing.assert_close(standardized.pixels(z), x)
    found, again = scores(plain), scores(standardized)
    pixels = torch.cat([x for x, _ in plain.data.val.epoch(0)])
    with torch.no_grad():
        rebuilt = plain.model.decode(plain.model.encode(pixels)).clamp(0, 1)
    expected = float((rebuilt - pixels).square().flatten(1).sum(1).mean())
    assert found["error"] == pytest.approx(expected, rel=1e-5)
    assert again["error"] == pytest.approx(expected, rel=1e-4)


def test_the_linear_error_matches_principal_components() -> None:
    """Against a projection onto the first right singular vectors of the centered samples."""
    task = made(code_size=5)
    pixels = torch.cat([x for x, _ in task.data.val.epoch(0)]).flatten(1).double()
    centered = pixels - pixels.mean(0)
    axes = torch.linalg.svd(centered).Vh[:5]
    expected = float((centered - centered @ axes.T @ axes).square().sum(1).mean())
    assert scores(task)["pca_error"] == pytest.approx(expected, rel=1e-4)
    assert scores(task)["pca_error"] == pytest.approx(expected, rel=1e-4), (
        "the second time from memory"
    )


def test_linear_codes_distinguish_sets_and_skip_large_images() -> None:
    codes = LinearCodes(1)
    for spread in (1.0, 3.0, 1.0):
        codes.begin().update(torch.tensor([[spread, 0.0], [-spread, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        assert codes.error() == pytest.approx(0.5)
    codes.begin().update(torch.rand(3, 5000))
    assert codes.error() is None
    assert LinearCodes(1).begin().error() is None


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_loss_is_summed_over_an_image(loss: Any) -> None:
    task = made(loss=loss)
    x = torch.rand(5, 1, 8, 8, generator=keyed(1))
    with torch.no_grad():
        decoded = task.model.decode(task.model.encode(x)).double()
        found = float(task.objective(x, task.model.encode(x))["loss"])
    p, truth = decoded.sigmoid(), x.double()
    squared, entropy = (decoded - truth).square(), -(truth * p.log() + (1 - truth) * (1 - p).log())
    expected = squared if loss == "squared_error" else entropy
    assert found == pytest.approx(float(expected.flatten(1).sum(1).mean()), rel=1e-5)


def test_reconstructions_are_clipped_where_they_are_scored() -> None:
    task = made()
    x = torch.rand(5, 1, 8, 8, generator=keyed(1))
    with torch.no_grad():
        raw = task.model.decode(task.model.encode(x))
        assert float(task.objective(x, task.model.encode(x))["loss"]) == pytest.approx(
            float(squared_error(raw, x)), rel=1e-6
        )
        torch.testing.assert_close(task.reconstructed(task.model.encode(x)), raw.clamp(0, 1))
    assert float(raw.min()) < 0


def test_the_divergence_matches_torch_distributions() -> None:
    mean, log_variance = (
        torch.randn(6, 4, generator=keyed(1)),
        torch.randn(6, 4, generator=keyed(2)),
    )
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_from_standard_normal(mean, log_variance), expected)


def test_beta_weighs_the_divergence_and_codes_are_resampled() -> None:
    x = torch.rand(5, 1, 8, 8, generator=keyed(1))
    for beta in (0.0, 1.0, 4.0):
        task = made(variational=True, beta=beta)
        terms = task.objective(x, task.model.encode(x))
        expected = terms["reconstruction"] + beta * terms["kl"]
        torch.testing.assert_close(terms["loss"], expected)
        assert not torch.equal(
            task.objective(x, task.model.encode(x))["reconstruction"], terms["reconstruction"]
        )
        terms["loss"].backward()
        assert all(p.grad is not None for p in task.model.parameters())


def test_sampled_codes_have_the_encoders_mean_and_variance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = made(variational=True)
    seen: list[Tensor] = []
    decode = task.model.decode
    monkeypatch.setattr(task.model, "decode", lambda codes: (seen.append(codes), decode(codes))[1])
    x = torch.rand(1, 1, 8, 8, generator=keyed(1)).expand(20_000, -1, -1, -1)
    with torch.no_grad():
        mean, log_variance = task.model.encode(x[:1]).chunk(2, dim=1)
        task.objective(x, task.model.encode(x))
    torch.testing.assert_close(seen[0].mean(0, keepdim=True), mean, atol=0.04, rtol=0)
    torch.testing.assert_close(
        seen[0].var(0, keepdim=True), log_variance.exp(), atol=0.05, rtol=0.05
    )


def test_sparsity_shrinks_the_codes() -> None:
    def size(sparsity: float) -> float:
        task = made(sparsity=sparsity)
        train(task, 30)
        with torch.no_grad():
            return float(task.model.encode(next(task.data.val.epoch(0))[0]).abs().mean())

    assert size(1.0) < 0.5 * size(0.0)


def train(task: Any, epochs: int) -> None:
    stage = next(task.stages())
    for epoch in range(epochs):
        for batch in stage.batches.epoch(epoch):
            stage.step(batch)


def test_it_learns_without_labels() -> None:
    """On digits the error falls below half of that of the best single image."""
    task = made(code_size=16)
    task.data = InMemory(Digits(), 32, scaling="unit")
    train(task, 6)
    pixels = torch.cat([x for x, _ in task.data.val.epoch(0)])
    assert scores(task)["error"] < 0.5 * float(
        squared_error(pixels.mean(0, keepdim=True).expand_as(pixels), pixels)
    )


def test_only_the_encoder_sees_the_corruption() -> None:
    x = torch.full((200, 1, 8, 8), 0.5)
    noisy = made(noise=0.2).corrupted(x, normal(keyed(1)))
    masked = made(masking=0.25).corrupted(x, mask=uniform(keyed(1)))
    assert float((noisy - x).std()) == pytest.approx(0.2, rel=0.05)
    assert float((masked == 0).float().mean()) == pytest.approx(0.25, rel=0.1)
    assert set(masked.unique().tolist()) == {0.0, 0.5}
    assert torch.equal(made().corrupted(x), x)


def test_denoising_is_scored_beside_the_corruption() -> None:
    """The same corruption in every evaluation, and errors against the clean images."""
    task = made(noise=0.5)
    first, second = scores(task), scores(task)
    assert first["corrupted_error"] == second["corrupted_error"]
    pixels = torch.cat([x for x, _ in task.data.val.epoch(0)])
    noise = InBlocks(normal(keyed(1)))
    seen = torch.cat([task.corrupted(x, noise) for x, _ in task.data.val.epoch(0)])
    assert first["corrupted_error"] == pytest.approx(
        float(squared_error(seen.clamp(0, 1), pixels)), rel=1e-5
    )
    with torch.no_grad():
        assert first["denoised_error"] == pytest.approx(
            float(squared_error(task.reconstructed(task.model.encode(seen)), pixels)), rel=1e-5
        )
    assert first["denoised_error"] != first["error"]
    assert "denoised_error" not in scores(made())


def test_pictures_and_codes_are_returned() -> None:
    found = scores(made(variational=True))
    assert found["reconstructions"].pixels.shape == (32, 1, 8, 8)
    assert found["prior"].pixels.shape == (32, 1, 8, 8)
    assert found["interpolations"].pixels.shape == (64, 1, 8, 8)
    assert all(
        0 <= float(found[n].pixels.min()) <= float(found[n].pixels.max()) <= 1
        for n in ("reconstructions", "prior")
    )
    assert found["codes"].vectors.shape == (16, 4)
    assert found["codes"].labels.shape == (16,)
    assert scores(made(noise=0.1))["reconstructions"].pixels.shape == (48, 1, 8, 8)
    pixels = found["reconstructions"].pixels
    first = torch.cat([x for x, _ in images().val.epoch(0)])[:16]
    assert torch.equal(torch.cat([pixels[:8], pixels[16:24]]), first), (
        "rows of images over their reconstructions"
    )


def test_interpolations_begin_and_end_at_the_images_codes() -> None:
    task = made(variational=True)
    x = next(task.data.val.epoch(0))[0]
    with torch.no_grad():
        walks = task.pictures(x)["interpolations"].pixels
        rebuilt = task.reconstructed(task.model.encode(x))
    torch.testing.assert_close(walks[[0, 7]], rebuilt[:2])


def test_the_elbo_is_of_pixels_as_probabilities() -> None:
    found = scores(made(variational=True, loss="cross_entropy"))
    assert found["elbo"] == pytest.approx(-found["reconstruction"] - found["kl"])
    assert "elbo" not in scores(made(variational=True))


@pytest.mark.parametrize(("channels", "code"), [((4, 8), 3), ((4,), 1), ((), 2)])
@pytest.mark.parametrize("variational", [False, True])
def test_a_convolutional_autoencoder_reconstructs_shapes(
    channels: tuple[int, ...], code: int, variational: bool
) -> None:
    model = ConvolutionalAutoencoder(3, (8, 12), channels, code, "batch", "tanh", variational)
    x = torch.rand(4, 3, 8, 12)
    assert model.encode(x).shape == (4, code * (2 if variational else 1))
    out = model(x)
    assert out.shape == x.shape
    out.sum().backward()
    means = [name for name, p in model.named_parameters() if p.grad is None]
    assert not means


def test_the_layer_sizes_of_hinton_and_salakhutdinov() -> None:
    sizes = [
        m.out_features for m in Autoencoder(1, (28, 28)).modules() if isinstance(m, torch.nn.Linear)
    ]
    assert sizes == [1000, 500, 250, 30, 250, 500, 1000, 784]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=autoencoder", "model.code_size=0"), "expected a whole number > 0"),
        (
            ("model=convolutional_autoencoder", "model.channels=[4,4,4,4]"),
            "cannot be halved 4 times",
        ),
        (("model=mlp", "task=autoencoding"), "this model has no code"),
        (("model=vae", "task.beta=-1"), "expected a number >= 0"),
        (("model=vae", "task.masking=1"), "< 1"),
        (("model=vae", "task.loss=mse"), "expected one of squared_error, cross_entropy"),
    ],
)
def test_impossible_settings_are_refused(overrides: tuple[str, ...], reason: str, dltrain) -> None:
    outcome = dltrain(*overrides)
    assert outcome.code == 2
    assert reason in outcome.err
    assert not Path("outputs").exists()


def test_a_model_selects_its_task_and_codes_can_be_exported(dltrain) -> None:
    """`dltrain model=vae` is enough; predict writes codes of images; a seed fixes samples."""
    run = dltrain("model=vae", "trainer.epochs=1", "callbacks=quiet", "--json").json["run"]
    outcome = dltrain("predict", run, "split=test", "--out", "codes.csv", "--json")
    assert outcome.code == 0, outcome.err
    with Path("codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == outcome.json["predicted"] == 359
    assert rows[0].keys() == {"input", "label", "error", *(f"code_{i}" for i in range(1, 21))}
    assert rows[0]["input"] == "digits/test/0"
    assert all(math.isfinite(float(row["code_20"])) for row in rows)
    drawn = [
        dltrain("generate", run, "--samples", "5", *seed, "--json").json["out"]
        for seed in ((), (), ("seed=1",))
    ]
    files = [[path.read_bytes() for path in sorted(Path(folder).glob("*.png"))] for folder in drawn]
    assert [len(found) for found in files] == [6, 6, 6]
    assert files[0] == files[1] != files[2]


def test_a_plain_autoencoder_generates_no_samples(dltrain) -> None:
    run = dltrain("model=autoencoder", "debug=smoke", "--json").json["run"]
    outcome = dltrain("generate", run, "--samples", "5")
    assert outcome.code == 2
    assert "model.variational=true" in outcome.err
    assert not (Path(run) / "samples").exists()


def test_impossible_samples_are_refused(dltrain) -> None:
    run = dltrain("model=vae", "debug=smoke", "--json").json["run"]
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    for words, reason in (
        (("--samples", "0"), "whole number from 1"),
        (("--samples", "many"), "whole number from 1"),
        (("--samples", "3", "--out", "full"), "not an empty folder"),
        (("--samples", "3", "a text"), "--samples cannot be combined with TEXT or --tokens"),
        (("checkpoint=first",), "expected best, last"),
    ):
        outcome = dltrain("generate", run, *words)
        assert outcome.code == 2, words
        assert reason in outcome.err, words
        assert [path.name for path in Path("full").iterdir()] == ["mine.txt"], words


def test_a_classifier_generates_no_samples(dltrain) -> None:
    run = dltrain("debug=smoke", "--json").json["run"]
    outcome = dltrain("generate", run, "--samples", "5")
    assert outcome.code == 2
    assert "generates no images" in outcome.err
