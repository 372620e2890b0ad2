"""Autoencoding: learn codes of images from which the images can be reconstructed; no labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import rng
from dltrain.engine import Direction, Stage, Task
from dltrain.metrics import LinearCodes
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.images.pixels import Pixels
from dltrain.tasks.noise import Draw, InBlocks, normal, uniform
from dltrain.tasks.outputs import require_shape
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, Embedding, Fraction, Image, ImageCoder, NonNegative

SHOWN = 16  # images with their reconstructions
COLUMNS = 8  # of a grid of pictures
PRIOR_SAMPLES = 32  # images drawn from the prior
MAX_EMBEDDED = 2000  # codes that are drawn as points
STREAM = "codes and corruption"  # the run's generator of training's noise


class Autoencoding(Task):
    """Learns to reconstruct images through a code. Batches are (images (B, C, H, W), anything).

    `loss` compares pixels in 0..1, summed over an image, averaged over the batch: the squared
    error, or the cross-entropy of pixels as probabilities. With cross-entropy a pixel is the
    sigmoid of the decoder's output. With the squared error it is the output itself, clipped to 0..1
    where it is scored or drawn, since a sigmoid would damp the gradient.

    `noise` (standard deviation; 1 is the distance from black to white) and `masking` (fraction of
    pixels set to black) corrupt the encoder's input, and the clean image is the target (Vincent et
    al. 2010, "Stacked Denoising Autoencoders"). `sparsity` weighs the L1 norm of the code. A
    variational model adds `beta` times the divergence of its codes from the standard normal
    distribution (Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 7; Higgins et
    al. 2017, "beta-VAE").

    Every evaluation gives the squared `error` of an image and `pca_error`, the lowest error that
    any linear code of the same size could reach on these images.

    Raises:
        ValueError: The model has no code, or the data is not images.
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
        if not isinstance(model, ImageCoder):
            raise ValueError(
                "this model has no code: model=autoencoder, vae or convolutional_autoencoder does"
            )
        self.model: Any = model
        self.pixels = Pixels(data.spec, "autoencoding")
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.watch = watch
        self.mode = mode
        self.loss = loss
        self.noise = noise
        self.masking = masking
        self.sparsity = sparsity
        self.beta = beta
        self.corrupts = bool(noise or masking)
        self.linear = LinearCodes(self.model.code_size)
        # The same codes in every epoch, so that pictures can be compared.
        codes = torch.randn(PRIOR_SAMPLES, self.model.code_size, generator=rng.keyed(0))
        self.register_buffer("prior", codes, persistent=False)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "train"."""
        if self.corrupts or self.model.variational:
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
            held_out=validation_split(self.data),
            evaluate=self.evaluate,
            optims=(optim,),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            replayable=True,
        )

    def corrupted(
        self, images: Tensor, noise: Draw | None = None, mask: Draw | None = None
    ) -> Tensor:
        """Return `images` with the configured noise and masking.

        They are drawn by `noise` and `mask`, without these from the run's generator.
        """
        if self.noise:
            noise = noise or normal(rng.torch_stream(STREAM, images.device))
            images = torch.add(
                images, noise(images.shape).to(images.device, non_blocking=True), alpha=self.noise
            )
        if self.masking:
            mask = mask or uniform(rng.torch_stream(STREAM, images.device))
            kept = mask(images.shape).to(images.device, non_blocking=True) >= self.masking
            images = images * kept.to(images)
        return images

    def objective(
        self, images: Tensor, codes: Tensor, draw: Draw | None = None
    ) -> dict[str, Tensor]:
        """Return the `loss` of `images` and, of a variational model, its two terms.

        `codes` is the encoder's output. A variational model's codes are sampled by `draw`, without
        it from the run's generator.
        """
        if not self.model.variational:
            loss = self.distance(self.model.decode(codes), images)
            if self.sparsity:
                loss = loss + self.sparsity * codes.float().abs().sum(1).mean()
            return {"loss": loss}
        mean, log_variance = codes.float().chunk(2, dim=1)
        divergence = kl_from_standard_normal(mean, log_variance).mean()
        draw = draw or normal(rng.torch_stream(STREAM, mean.device))
        # The reparameterization (Kingma and Welling 2014, section 2.4).
        sampled = mean + draw(mean.shape) * (0.5 * log_variance).exp()
        reconstruction = self.distance(self.model.decode(sampled), images)
        loss = reconstruction + self.beta * divergence
        if self.sparsity:
            loss = loss + self.sparsity * mean.abs().sum(1).mean()
        return {"loss": loss, "reconstruction": reconstruction, "kl": divergence}

    def distance(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return the distance () of the decoder's outputs to `images`, both (B, C, H, W), in fp32.

        It is summed over an image and averaged over the batch.
        """
        require_shape(self.model, images, decoded, tuple(images.shape))
        if self.loss == "cross_entropy":
            total = F.binary_cross_entropy_with_logits(decoded.float(), images, reduction="sum")
            return total / len(images)
        return squared_error(decoded.float(), images)

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        directions: dict[str, Direction | None] = {"loss": "min", "error": "min"}
        if self.corrupts:
            directions["denoised_error"] = "min"
            directions["corrupted_error"] = None
        if self.model.variational:
            directions["reconstruction"] = "min"
            directions["kl"] = None
            if self.loss == "cross_entropy":
                directions["elbo"] = "max"
        directions["pca_error"] = None
        return directions

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the errors over all batches, pictures, and codes as points.

        Raises:
            ValueError: There are no batches.
        """
        sums: dict[str, Tensor] = {}
        codes: list[Tensor] = []
        labels: list[Tensor] = []
        linear = self.linear.begin()
        first: Tensor | None = None
        count = 0
        noise, mask = self._evaluation_noise()
        draw: Draw | None = None
        if self.model.variational:
            draw = InBlocks(normal(rng.torch_stream(STREAM, self.prior.device)))
        for inputs, targets in batches:
            images = self.pixels(inputs)
            linear.update(images)
            encoded = self.model.encode(images)
            terms = self.objective(images, encoded, draw)
            terms["error"] = squared_error(self.reconstructed(encoded), images)
            if self.corrupts:
                corrupted = self.corrupted(images, noise, mask)
                denoised = self.reconstructed(self.model.encode(corrupted))
                terms["denoised_error"] = squared_error(denoised, images)
                terms["corrupted_error"] = squared_error(corrupted.clamp(0, 1), images)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * len(images)
            if count < MAX_EMBEDDED:
                codes.append(encoded[:, : self.model.code_size].float())
                labels.append(targets)
            if first is None:
                first = images[:SHOWN]
            count += len(images)
        if first is None:
            raise ValueError("there is nothing to evaluate: the split is empty")
        scores: dict[str, Any] = {name: float(value) / count for name, value in sums.items()}
        if self.model.variational and self.loss == "cross_entropy":
            scores["elbo"] = -(scores["reconstruction"] + scores["kl"])
        pca_error = linear.error()
        if pca_error is not None:
            scores["pca_error"] = pca_error
        points = Embedding(torch.cat(codes), torch.cat(labels), self.data.spec.class_names)
        return {**scores, **self.pictures(first), "codes": points}

    def sample_rows(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[dict[str, Any]]:
        """Yield the squared error and the loss of each image, and its class if there are classes.

        Of a variational model also the two terms of the loss, with the codes that `evaluate` draws.
        """
        names = self.data.spec.class_names
        draw: Draw | None = None
        if self.model.variational:
            draw = InBlocks(normal(rng.torch_stream(STREAM, self.prior.device)))
        for inputs, targets in batches:
            images = self.pixels(inputs)
            encoded = self.model.encode(images)
            reconstructed = self.reconstructed(encoded)
            for number, target in enumerate(targets.tolist()):
                one = slice(number, number + 1)
                terms = self.objective(images[one], encoded[one], draw)
                row: dict[str, Any] = {}
                if names:
                    row["label"] = names[target]
                row["error"] = float(squared_error(reconstructed[one], images[one]))
                yield {**row, **{name: float(value) for name, value in terms.items()}}

    @staticmethod
    def _evaluation_noise() -> tuple[Draw, Draw]:
        """Return the draws of noise and masks of an evaluation, the same in every epoch."""
        return InBlocks(normal(rng.keyed(1))), InBlocks(uniform(rng.keyed(1)))

    def pictures(self, images: Tensor) -> dict[str, Any]:
        """Return pictures of `images` over their reconstructions.

        Of a variational model also samples from the prior, and interpolations between the codes of
        neighboring images.
        """
        corrupted = self.corrupted(images, *self._evaluation_noise())
        reconstructed = self.reconstructed(self.model.encode(corrupted))
        kinds = [images, reconstructed]
        if self.corrupts:
            kinds = [images, corrupted.clamp(0, 1), reconstructed]
        rows: list[Tensor] = []
        for parts in zip(*(kind.split(COLUMNS) for kind in kinds), strict=True):
            rows.extend(parts)
        pictures = {"reconstructions": Image(torch.cat(rows).float().cpu())}
        if not self.model.variational:
            return pictures
        pictures["prior"] = Image(self.sample(PRIOR_SAMPLES, self.prior).cpu())
        means = self.model.encode(images)[:, : self.model.code_size].float()
        steps = torch.linspace(0, 1, COLUMNS, device=images.device).view(-1, 1)
        pairs = zip(means[:-1:2], means[1::2], strict=False)
        walks = [start + (end - start) * steps for start, end in pairs]
        if walks:
            pictures["interpolations"] = Image(self.decoded(torch.cat(walks)).cpu())
        return pictures

    def reconstructed(self, encoded: Tensor) -> Tensor:
        """Return images (B, C, H, W) in 0..1 from the encoder's outputs, or from their means."""
        return self.decoded(encoded[:, : self.model.code_size])

    def decoded(self, codes: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in 0..1 of codes (B, code_size)."""
        decoded: Tensor = self.model.decode(codes).float()
        if self.loss == "cross_entropy":
            return decoded.sigmoid()
        return decoded.clamp(0, 1)

    def sample(self, count: int, codes: Tensor | None = None) -> Tensor:
        """Return images (count, C, H, W) in 0..1 of `codes`, by default drawn from the prior.

        Raises:
            ValueError: The model is not variational, so it has no prior.
        """
        if not self.model.variational:
            raise ValueError(
                "this autoencoder has no distribution to draw from: model.variational=true gives "
                "it one"
            )
        if codes is None:
            device = self.prior.device
            generator = rng.torch_stream(STREAM, device)
            codes = torch.randn(count, self.model.code_size, device=device, generator=generator)
        return self.decoded(codes)

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (B, code_size) and squared errors (B,) of images (B, C, H, W)."""
        images = self.pixels(batch)
        codes = self.model.encode(images)[:, : self.model.code_size].float()
        decoded = self.decoded(codes)
        require_shape(self.model, images, decoded, tuple(images.shape))
        return codes, (decoded - images).square().flatten(1).sum(1)

    def prediction_rows(self, outputs: tuple[Tensor, Tensor]) -> list[dict[str, float]]:
        """Return the reconstruction error and the code of each input."""
        codes, errors = outputs
        rows = []
        for code, error in zip(codes.tolist(), errors.tolist(), strict=True):
            named_code = {f"code_{number}": value for number, value in enumerate(code, 1)}
            rows.append({"error": error, **named_code})
        return rows


def squared_error(images: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error (), summed over an image and averaged over images (B, C, H, W)."""
    return F.mse_loss(images, truth, reduction="sum") / len(truth)


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence (B,) of normal distributions (B, D) from N(0, 1), in nats.

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
