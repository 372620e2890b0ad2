"""GANs: shapes, ranges, initial weights, conditioning, and sides that cannot be halved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.models.images.dcgan import DCGAN
from dltrain.models.images.gan import GAN, Adversaries
from dltrain.weights.freezing import trainable_count

SMALL_GAN = {"latent_size": 6, "generator_sizes": (12, 10), "discriminator_sizes": (10, 12)}
SHAPES: list[tuple[tuple[int, int, int], tuple[int, ...]]] = [  # with the DCGAN's channels for it
    ((1, 28, 28), (8, 4)),
    ((3, 32, 32), (8, 6, 4)),
    ((1, 64, 64), (8, 6, 5, 4)),
    ((3, 64, 64), (8, 6, 5, 4)),
    ((3, 12, 20), (8, 4)),
]


def gan(shape: tuple[int, int, int] = (1, 8, 8), **settings: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(shape[0], shape[1:], 10, **{**SMALL_GAN, **settings})


def dcgan(shape: tuple[int, int, int] = (1, 8, 8), **settings: Any) -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(shape[0], shape[1:], 10, **{"latent_size": 6, "channels": (8, 4), **settings})


def noise(count: int, size: int = 6) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(3))


PAIRS = {
    "gan": gan,
    "gan without norm": lambda shape=(1, 8, 8), **s: gan(shape, norm="none", **s),
    "gan with layer norm": lambda shape=(1, 8, 8), **s: gan(
        shape, norm="layer", activation="relu", **s
    ),
    "dcgan": dcgan,
    "dcgan with layer norm": lambda shape=(1, 8, 8), **s: dcgan(
        shape, norm="layer", discriminator_norm="layer", **s
    ),
    "dcgan without norm": lambda shape=(1, 8, 8), **s: dcgan(
        shape, norm="none", discriminator_norm="none", **s
    ),
    "separable dcgan": lambda shape=(1, 8, 8), **s: dcgan(shape, separable=True, **s),
}


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("pair", PAIRS)
def test_images_have_the_shape_and_range_of_data_and_every_weight_learns(
    pair: str, conditional: bool
) -> None:
    model = PAIRS[pair](conditional=conditional)
    assert model.num_classes == (10 if conditional else 0)
    classes = torch.arange(10).repeat(2)
    images = model.generate(
        20 * noise(20), classes
    )  # so much that an output without a bound would show
    assert images.shape == (20, 1, 8, 8)
    assert images.abs().max() <= 1
    logits = model(images, classes)
    assert logits.shape == (20,)
    (logits * torch.linspace(-1, 1, 20)).sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("separable", [False, True], ids=["", "separable"])
@pytest.mark.parametrize(("shape", "channels"), SHAPES, ids=str)
def test_any_image_size_and_channels(
    shape: tuple[int, int, int], channels: tuple[int, ...], separable: bool
) -> None:
    for model in (gan(shape), dcgan(shape, channels=channels, separable=separable)):
        images = model.generate(noise(3))
        assert images.shape == (3, *shape)
        assert images.std() > 0
        assert model(images).shape == (3,)
        with pytest.raises(RuntimeError):  # the discriminator looks at the whole image
            model(images[..., 1:])


def test_the_tanh_reaches_both_ends() -> None:
    """Images fill -1..1, not only a half of it."""
    model = dcgan()
    for p in model.generator.parameters():
        p.data *= 100
    images = model.generate(noise(50))
    assert images.min() < -0.99
    assert images.max() > 0.99


@pytest.mark.parametrize("separable", [False, True], ids=["", "separable"])
def test_a_dcgan_has_the_initial_weights_of_the_paper(separable: bool) -> None:
    """N(0, 0.02) in every layer, scales of norms N(1, 0.02), no biases; torch's are wider."""
    model = dcgan(
        (3, 32, 32),
        channels=(128, 96, 64),
        conditional=True,
        separable=separable,
        discriminator_norm="layer",
    )
    counted: dict[str, int] = {}
    for name, layer in model.named_modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(weight, Tensor):
            norm = isinstance(layer, nn.BatchNorm2d | nn.GroupNorm)
            error = 4 / weight.numel() ** 0.5  # of the standard error of mean and spread
            assert float(weight.detach().mean()) == pytest.approx(
                1 if norm else 0, abs=0.02 * error
            ), name
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=error), name
            counted[type(layer).__name__] = counted.get(type(layer).__name__, 0) + 1
        assert not isinstance(bias, Tensor) or not bias.any(), name
    assert counted.keys() == {
        "Linear",
        "Conv2d",
        "ConvTranspose2d",
        "BatchNorm2d",
        "GroupNorm",
        "Embedding",
    }


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm), ("none", None)]
)
def test_the_discriminators_first_layer_has_no_norm(
    norm: str, kind: type[nn.Module] | None
) -> None:
    """All of the others have one, and so has every layer of the generator but the last."""
    model = dcgan((1, 32, 32), channels=(8, 6, 4), norm=norm, discriminator_norm=norm)
    networks = {"generator": model.generator, "discriminator": model.discriminator.body}
    layers = {
        name: [type(layer) for layer in network.children()] for name, network in networks.items()
    }
    norms = [kind] if kind else []
    halving, doubling = [nn.Conv2d, *norms, nn.LeakyReLU], [nn.ConvTranspose2d, *norms, nn.ReLU]
    assert layers["discriminator"] == [nn.Conv2d, nn.LeakyReLU, *halving, *halving, nn.Flatten]
    first = [nn.Linear, nn.Unflatten, *norms, nn.ReLU]
    assert layers["generator"] == [*first, *doubling, *doubling, nn.ConvTranspose2d, nn.Tanh]


def test_leaky_relus_have_the_slope_of_the_paper() -> None:
    """0.2, not torch's 0.01."""
    slopes = {
        m.negative_slope
        for pair in (gan(), dcgan())
        for m in pair.discriminator.modules()
        if _leaky(m)
    }
    assert slopes == {0.2}


def _leaky(module: nn.Module) -> bool:
    return isinstance(module, nn.LeakyReLU)


def test_separable_convolutions_have_fewer_weights_and_the_same_shapes() -> None:
    whole, separable = (
        dcgan((3, 32, 32), channels=(32, 16, 8), separable=s) for s in (False, True)
    )
    for network in ("generator", "discriminator"):
        assert trainable_count(getattr(separable, network)) < trainable_count(
            getattr(whole, network)
        )

    def convolutions(m):
        return [c for c in m.modules() if isinstance(c, nn.Conv2d | nn.ConvTranspose2d)]

    assert all(
        c.groups == c.in_channels or c.kernel_size == (1, 1) for c in convolutions(separable)
    )
    assert separable.generate(noise(2)).shape == whole.generate(noise(2)).shape == (2, 3, 32, 32)
    maps = {  # what every halving and doubling gives
        model: [
            tuple(x.shape)
            for x in _outputs(model.generator, noise(2), (nn.ConvTranspose2d,))
            + _outputs(model.discriminator.body, torch.zeros(2, 3, 32, 32), (nn.LeakyReLU,))
        ]
        for model in (whole, separable)
    }
    assert maps[whole] == maps[separable]
    assert maps[whole] == [
        (2, 16, 8, 8),
        (2, 8, 16, 16),
        (2, 3, 32, 32),
        (2, 8, 16, 16),
        (2, 16, 8, 8),
        (2, 32, 4, 4),
    ]


def _outputs(network: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[Tensor]:
    found = []
    for layer in network.children():
        x = layer(x)
        found += [x] if isinstance(layer, kinds) else []
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_only_a_conditional_gan_depends_on_the_class(pair: str) -> None:
    """Another class gives another image and logit; without `conditional` classes change nothing."""
    images, same, other = torch.rand(4, 1, 8, 8) * 2 - 1, torch.arange(4), torch.arange(4) + 1
    for conditional in (True, False):
        model = PAIRS[pair](
            conditional=conditional
        ).eval()  # without dropout, and without batches in batch norm
        with torch.no_grad():
            made = [model.generate(noise(4), c) for c in (same, other)]
            seen = [model(images, c) for c in (same, other)]
        for a, b in (made, seen):
            assert (a != b).flatten(1 if a.ndim > 1 else 0).any(-1).all() == conditional
        if not conditional:
            with torch.no_grad():
                assert torch.equal(made[0], model.generate(noise(4)))
                assert torch.equal(seen[0], model(images))


def test_the_discriminators_class_is_a_projection_of_its_features() -> None:
    """Miyato and Koyama 2018, equation 3: head(f) + <v_class, f>, written out."""
    model = gan(conditional=True).eval()
    images, classes = torch.rand(5, 1, 8, 8) * 2 - 1, torch.tensor([0, 9, 3, 3, 1])
    features = model.discriminator.body(images)
    assert model.discriminator.of_class is not None
    v = model.discriminator.of_class.weight[classes] + model.discriminator.head.weight
    expected = torch.einsum("bf,bf->b", features, v) + model.discriminator.head.bias
    torch.testing.assert_close(model(images, classes), expected)


@pytest.mark.parametrize("side", [(8, 10), (10, 8), (7, 7), (12, 28)], ids=str)
def test_sides_that_cannot_be_halved_raise(side: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError,
        match=rf"{side[0]}x{side[1]} pixels cannot be halved 3 times; give model\.channels",
    ):
        DCGAN(1, side, 10, channels=(8, 4, 2))


def test_a_dcgan_without_channels_says_so() -> None:
    with pytest.raises(ValueError, match=r'channels=\[\]": a DCGAN needs at least one entry'):
        dcgan(channels=())


def test_a_gan_has_the_hidden_layers_of_its_settings() -> None:
    """Without any, the generator is an affine map and the discriminator a linear classifier."""
    model = gan(
        (3, 4, 4), generator_sizes=(5, 7), discriminator_sizes=(9,), discriminator_dropout=0.4
    )
    assert _sizes(model.generator) == [(6, 5), (5, 7), (7, 48)]
    assert _sizes(model.discriminator) == [(48, 9), (9, 1)]
    assert [m.p for m in model.discriminator.modules() if isinstance(m, nn.Dropout)] == [0.4]
    assert not [m for m in model.generator.modules() if isinstance(m, nn.Dropout)]
    bare = gan((3, 4, 4), generator_sizes=(), discriminator_sizes=())
    assert (_sizes(bare.generator), _sizes(bare.discriminator)) == ([(6, 48)], [(48, 1)])
    assert isinstance(bare, Adversaries)


def _sizes(network: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
