"""Autoencoding: learn short codes of images from which they can be drawn again; no labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Stage, Task
from dltrain.metrics import LinearCodes
from dltrain.optim import Optim
from dltrain.tasks.directions import better
from dltrain.tasks.images.pixels import Pixels
from dltrain.tasks.noise import Draw, InBlocks, normal, uniform
from dltrain.types import Data, Embedding, Fraction, Image, NonNegative

SHOWN = 16  # images and their reconstructions
COLUMNS = 8  # of a grid of pictures
PRIOR = 32  # images drawn from the prior
STREAM = "codes and corruption"  # the run's generator of what training draws
MOST_CODES = 2000  # that are drawn as points


@runtime_checkable
class Codes(Protocol):
    """A model with a code; of a variational one `encode` gives means beside logarithms of variances."""

    code_size: int
    variational: bool

    def encode(self, images: Tensor) -> Tensor: ...
    def decode(self, codes: Tensor) -> Tensor: ...


class Autoencoding(Task):
    """Learns to reconstruct images through a code. Batches are (images (B, C, H, W), anything).

    `loss` is of an image's pixels in 0..1, summed, and the mean over the batch: the squared error, or the cross-entropy
    of pixels taken as probabilities. For the latter a pixel is the sigmoid of what the decoder gives; for the former it is
    that itself, cut to 0..1 wherever it is scored or drawn, for a sigmoid damps the squared error's gradient.

    `noise` (standard deviation, 1 is from black to white) and `masking` (share of pixels made black) corrupt what the
    encoder sees, and the image as it was is to be drawn (Vincent et al. 2010). `sparsity` weighs the L1 norm of the code. A
    variational model adds `beta` times the divergence of its codes from a standard normal distribution (Kingma and Welling
    2014, equation 7; Higgins et al. 2017).

    Every evaluation gives the squared `error` an image and, beside it, `pca_error`: the least that any linear code of the
    same size could reach on these very images. ValueError for a model without a code.
    """

    prior: Tensor

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[[nn.Module, int], Optim],
        epochs: int,
        loss: Literal["squared_error", "cross_entropy"] = "squared_error",
        noise: NonNegative = 0.0,
        masking: Fraction = 0.0,
        sparsity: NonNegative = 0.0,
        beta: NonNegative = 1.0,
        watch: str = "val/error",
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Codes):
            raise ValueError(
                "this model has no code: model=autoencoder, vae or convolutional_autoencoder does"
            )
        self.model: Any = model
        self.pixels = Pixels(data.spec, "autoencoding")
        self.data, self.optim, self.epochs, self.watch, self.mode = data, optim, epochs, watch, mode
        self.loss, self.noise, self.masking, self.sparsity, self.beta = (
            loss,
            noise,
            masking,
            sparsity,
            beta,
        )
        self.linear = LinearCodes(self.model.code_size)
        points = torch.randn(PRIOR, self.model.code_size, generator=rng.keyed(0))
        self.register_buffer(
            "prior", points, persistent=False
        )  # the same in every epoch, so that pictures compare

    def stages(self) -> Iterator[Stage]:
        if self.noise or self.masking or self.model.variational:
            rng.torch_stream(STREAM, self.prior.device)
        optim = self.optim(self.model, self.epochs * len(self.data.train))

        def step(batch: tuple[Tensor, Any]) -> dict[str, Tensor]:
            images = self.pixels(batch[0])
            terms = self.objective(images, self.model.encode(self.corrupted(images)))
            optim.update(terms["loss"], weight=len(images))
            return {name: value.detach() for name, value in terms.items()}

        yield Stage(
            name="train",
            epochs=self.epochs,
            batches=self.data.train,
            step=step,
            held_out=self.data.val if self.data.val.samples else None,
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=better(self, self.watch, self.mode),
        )

    def corrupted(
        self, images: Tensor, noise: Draw | None = None, mask: Draw | None = None
    ) -> Tensor:
        """Return what the encoder sees of `images`; without `noise` and `mask` the run's own
        generator draws it.
        """
        if self.noise:
            noise = noise or normal(rng.torch_stream(STREAM, images.device))
            images = torch.add(images, noise(images.shape).to(images.device), alpha=self.noise)
        if self.masking:
            mask = mask or uniform(rng.torch_stream(STREAM, images.device))
            images = images * (mask(images.shape).to(images.device) >= self.masking).to(images)
        return images

    def objective(
        self, images: Tensor, codes: Tensor, draw: Draw | None = None
    ) -> dict[str, Tensor]:
        """Return the `loss`, and of a variational model its two terms, from what the encoder made
        of `images`.

        The codes of a variational model come from `draw`, without it from the run's own generator.
        """
        if not self.model.variational:
            loss = self.distance(self.model.decode(codes), images)
            return {
                "loss": loss + self.sparsity * codes.float().abs().sum(1).mean()
                if self.sparsity
                else loss
            }
        mean, log_variance = codes.float().chunk(2, dim=1)
        divergence = kl_from_standard_normal(mean, log_variance).mean()
        draw = draw or normal(rng.torch_stream(STREAM, mean.device))
        drawn = mean + draw(mean.shape) * (0.5 * log_variance).exp()  # the reparameterization
        reconstruction = self.distance(self.model.decode(drawn), images)
        loss = reconstruction + self.beta * divergence
        if self.sparsity:
            loss = loss + self.sparsity * mean.abs().sum(1).mean()
        return {"loss": loss, "reconstruction": reconstruction, "kl": divergence}

    def distance(self, decoded: Tensor, images: Tensor) -> Tensor:
        """How far the reconstructions are from `images`, the mean of their sums over an image, in fp32."""
        if self.loss == "cross_entropy":
            return F.binary_cross_entropy_with_logits(
                decoded.float(), images, reduction="sum"
            ) / len(images)
        return squared_error(decoded.float(), images)

    def directions(self) -> dict[str, Direction | None]:
        better: dict[str, Direction | None] = {"loss": "min", "error": "min"}
        if self.noise or self.masking:
            better |= {"denoised_error": "min", "corrupted_error": None}
        if self.model.variational:
            better |= {"reconstruction": "min", "kl": None}
        if self.model.variational and self.loss == "cross_entropy":
            better |= {"elbo": "max"}
        return {**better, "pca_error": None}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """The squared error, the linear one beside it, and pictures."""
        sums: dict[str, Tensor] = {}
        codes, labels, linear = [], [], self.linear.begin()
        first: Tensor | None = None
        count = 0
        noise = InBlocks(normal(rng.keyed(1)))  # the same corruption in every epoch
        mask = InBlocks(uniform(rng.keyed(1)))
        draw = (
            InBlocks(normal(rng.torch_stream(STREAM, self.prior.device)))
            if self.model.variational
            else None
        )
        for inputs, targets in batches:
            images = self.pixels(inputs)
            linear.update(images)
            encoded = self.model.encode(images)
            parts = {
                **self.objective(images, encoded, draw),
                "error": squared_error(self.rebuilt(encoded), images),
            }
            if self.noise or self.masking:
                seen = self.corrupted(images, noise, mask)
                parts["denoised_error"] = squared_error(
                    self.rebuilt(self.model.encode(seen)), images
                )
                parts["corrupted_error"] = squared_error(seen.clamp(0, 1), images)
            for name, value in parts.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * len(images)
            if count < MOST_CODES:
                codes.append(encoded[:, : self.model.code_size].float())
                labels.append(targets)
            first, count = images[:SHOWN] if first is None else first, count + len(images)
        if first is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        scores: dict[str, Any] = {name: float(value) / count for name, value in sums.items()}
        if self.model.variational and self.loss == "cross_entropy":
            scores["elbo"] = -(scores["reconstruction"] + scores["kl"])
        if (error := linear.error()) is not None:
            scores["pca_error"] = error
        names = self.data.spec.class_names
        return (
            scores
            | self.pictures(first)
            | {"codes": Embedding(torch.cat(codes), torch.cat(labels), names)}
        )

    def pictures(self, images: Tensor) -> dict[str, Any]:
        """Rows of images over their reconstructions; of a variational model also images from the prior and walks between
        the codes of neighbours."""
        corrupt = bool(self.noise or self.masking)
        seen = self.corrupted(
            images, InBlocks(normal(rng.keyed(1))), InBlocks(uniform(rng.keyed(1)))
        )
        rebuilt = self.rebuilt(self.model.encode(seen))
        rows = [images, seen.clamp(0, 1), rebuilt] if corrupt else [images, rebuilt]
        lines = [
            line for lines in zip(*(r.split(COLUMNS) for r in rows), strict=True) for line in lines
        ]
        found = {"reconstructions": Image(torch.cat(lines).float().cpu())}
        if self.model.variational:
            found["prior"] = Image(self.sample(PRIOR, self.prior).cpu())
            means = self.model.encode(images)[:, : self.model.code_size].float()
            steps = torch.linspace(0, 1, COLUMNS, device=images.device).view(-1, 1)
            walks = [a + (b - a) * steps for a, b in zip(means[:-1:2], means[1::2], strict=False)]
            if walks:
                found["interpolations"] = Image(self.draw(torch.cat(walks)).cpu())
        return found

    def rebuilt(self, encoded: Tensor) -> Tensor:
        """Reconstructions (B, C, H, W) in 0..1 from what the encoder gave, of a distribution from its mean."""
        return self.draw(encoded[:, : self.model.code_size])

    def draw(self, codes: Tensor) -> Tensor:
        decoded: Tensor = self.model.decode(codes).float()
        return decoded.sigmoid() if self.loss == "cross_entropy" else decoded.clamp(0, 1)

    def sample(self, count: int, codes: Tensor | None = None) -> Tensor:
        """Images (count, C, H, W) in 0..1 from the prior; ValueError of a model that has none."""
        if not self.model.variational:
            raise ValueError(
                "this autoencoder has no distribution to draw from: model.variational=true gives it one"
            )
        if codes is None:
            device = self.prior.device
            generator = rng.torch_stream(STREAM, device)
            codes = torch.randn(count, self.model.code_size, device=device, generator=generator)
        return self.draw(codes)

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, code_size) and squared errors (B,) of standardized images (B, C, H, W)."""
        images = self.pixels(batch)
        codes = self.model.encode(images)[:, : self.model.code_size].float()
        return codes, (self.draw(codes) - images).square().flatten(1).sum(1)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, float]]:
        """What `predict` gave for each input: how badly it was drawn again, and its code."""
        pairs = zip(outputs[0].tolist(), outputs[1].tolist(), strict=True)
        return [
            {"error": error, **{f"code_{i}": v for i, v in enumerate(code, 1)}}
            for code, error in pairs
        ]


def squared_error(images: Tensor, truth: Tensor) -> Tensor:
    """The mean over images of the sum over pixels."""
    return F.mse_loss(images, truth, reduction="sum") / len(truth)


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of each normal distribution (B, D) its divergence (B,) from N(0, 1), in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
