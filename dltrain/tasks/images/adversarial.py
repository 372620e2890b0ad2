"""Adversarial learning: a generator of images against a discriminator that detects them."""

from __future__ import annotations

import fractions
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import metrics, rng
from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import watch_direction
from dltrain.tasks.images.pixels import Pixels
from dltrain.tasks.many_classes import most_different
from dltrain.tasks.noise import InBlocks, normal, uniform
from dltrain.tasks.outputs import require_shape
from dltrain.tasks.supervised import validation_split
from dltrain.types import (
    Data,
    Fraction,
    GeneratorAndDiscriminator,
    Image,
    NonNegative,
    PositiveInt,
    Table,
)

STREAM = "noise"  # the run's generator of training's noise
SHOWN = 64  # samples in a grid
GENERATED_AT_ONCE = 256  # samples in one call of the generator
MAX_TRACED_CLASSES = 100  # of a conditional discriminator, which predicts once for each class
Loss = Literal["nonsaturating", "minimax", "least_squares", "hinge", "wasserstein"]
DISTANCE = "val/distance"


class Adversarial(Task):
    """Learns to generate images like those of the data (Goodfellow et al. 2014).

    Batches are (images (B, C, H, W), classes (B,)). A step updates the discriminator, then the
    generator against the updated discriminator; with `discriminator_steps` the generator is updated
    only in every so many-th step. Where several batches make one update (trainer.accumulate), all
    but the last of the generator's losses are against the discriminator before its update.
    `label_smoothing` lowers the target of real images from 1 (one-sided, Salimans et al. 2016).
    `penalty` weighs the gradient penalty of the Wasserstein loss.

    `judge` is the evaluation classifier, which a first stage trains on the same data for
    `judge_epochs`. Its features and predictions evaluate the generated samples: `distance` is the
    Frechet distance between features of real and of generated images (not comparable with FIDs,
    which use features of another network), `least_share` is the fraction of the rarest class among
    the samples, `diversity` is the variance of the samples' features (without an evaluation
    classifier: of their pixels) over that of real images; near 0 the generator has collapsed.

    Raises:
        ValueError: The data or the model does not suit, or a setting does not apply to the loss.
    """

    networks = ("generator", "discriminator", "judge")
    divisible = False
    mixes = False  # the generator would learn to generate mixtures
    noise: Tensor

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        loss: Loss = "nonsaturating",
        discriminator_steps: PositiveInt = 1,
        label_smoothing: Fraction = 0.0,
        penalty: NonNegative = 10.0,
        judge: nn.Module | None = None,
        judge_epochs: PositiveInt = 1,
        watch: str = DISTANCE,
        mode: Direction | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, GeneratorAndDiscriminator):
            raise ValueError(
                "this model is not a pair of a generator and a discriminator: model=gan or dcgan is"
            )
        check_loss(loss, label_smoothing, model.discriminator)
        has_classes = data.spec.class_names and not data.spec.boxes
        if judge is not None and not (isinstance(judge, nn.Sequential) and has_classes):
            raise ValueError(
                "judge: expected a sequential classifier, and images with a class each "
                "(task.judge=null for none)"
            )
        self.pixels = Pixels(data.spec, "adversarial learning")
        self.model: Any = model
        self.judge = judge
        self.judge_epochs = judge_epochs
        self.data = data
        self.optim = optim
        self.epochs = epochs
        self.mode = mode
        self.watch = watch
        if judge is None and watch == DISTANCE:  # a distance needs the evaluation classifier
            self.watch = ""
        self.loss = loss
        self.discriminator_steps = discriminator_steps
        self.penalty = penalty
        self.real_target = 1 - label_smoothing
        # The same noise in every epoch, so that pictures can be compared.
        noise = torch.randn(SHOWN, self.model.latent_size, generator=rng.keyed(0))
        self.register_buffer("noise", noise, persistent=False)

    def stages(self) -> Iterator[Stage]:
        """Yield the stage "judge" of the evaluation classifier, if any, then "adversarial"."""
        rng.torch_stream(STREAM, self.noise.device)
        if self.judge is not None:
            yield self._classifier_stage(self.judge)
        steps = self.epochs * len(self.data.train)
        generator_steps = max(1, steps // self.discriminator_steps)
        discriminator_optim = self.optim(self.model.discriminator, steps, "discriminator")
        generator_optim = self.optim(
            self.model.generator,
            generator_steps,
            "generator",
            updates_per_batch=fractions.Fraction(1, self.discriminator_steps),
        )
        yield Stage(
            name="adversarial",
            epochs=self.epochs,
            batches=self.data.train,
            step=lambda batch: self.step(batch, generator_optim, discriminator_optim),
            held_out=validation_split(self.data),
            evaluate=self.evaluate,
            optims=(generator_optim, discriminator_optim),
            watch=self.watch,
            mode=watch_direction(self, self.watch, self.mode),
            replayable=self.discriminator_steps == 1,
        )

    def _classifier_stage(self, classifier: nn.Module) -> Stage:
        """Return the stage that trains the evaluation classifier."""
        steps = self.judge_epochs * len(self.data.train)
        optim = self.optim(classifier, steps, "judge", "max")
        return Stage(
            name="judge",
            epochs=self.judge_epochs,
            batches=self.data.train,
            step=lambda batch: self.classifier_step(batch, optim),
            held_out=validation_split(self.data),
            evaluate=self.evaluate_classifier,
            optims=(optim,),
            watch="val/accuracy",
            replayable=True,
        )

    def classifier_step(self, batch: tuple[Tensor, Tensor], optim: Optim) -> dict[str, Tensor]:
        """Update the evaluation classifier on a batch, by the cross-entropy."""
        assert self.judge is not None
        images, classes = batch
        loss = F.cross_entropy(self.judge(self.centered(images)), classes)
        optim.update(loss, weight=len(images))
        return {"loss": loss.detach()}

    def evaluate_classifier(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the accuracy of the evaluation classifier over all batches."""
        assert self.judge is not None
        hits = [
            self.judge(self.centered(images)).argmax(1) == classes for images, classes in batches
        ]
        return {"accuracy": float(torch.cat(hits).float().mean())}

    def step(
        self, batch: tuple[Tensor, Tensor], generator_optim: Optim, discriminator_optim: Optim
    ) -> dict[str, Tensor]:
        """Update the discriminator, and in its turn the generator, on a batch."""
        real = self.centered(batch[0])
        classes = self.condition(batch[1])
        updates_generator = (discriminator_optim.updates + 1) % self.discriminator_steps == 0
        with torch.set_grad_enabled(updates_generator):
            fake = self.model.generate(self.draw_noise(len(real), real.device), classes)
        require_shape(self.model, real, fake, tuple(real.shape))
        constant_fake = fake.detach()
        real_logits = self.model(real, classes).float()
        require_shape(self.model, real, real_logits, real.shape[:1])
        fake_logits = self.model(constant_fake, classes).float()
        loss = discriminator_loss(self.loss, real_logits, fake_logits, self.real_target)
        if self.loss == "wasserstein" and self.penalty:
            loss = loss + self.penalty * self.gradient_penalty(real, constant_fake, classes)
        discriminator_optim.update(loss, weight=len(real))
        losses = {"discriminator_loss": loss.detach()}
        if updates_generator:
            loss = generator_loss(self.loss, self.model(fake, classes).float())
            generator_optim.update(loss, weight=len(real))
            losses["loss"] = loss.detach()
        return losses

    def draw_noise(self, count: int, device: torch.device) -> Tensor:
        """Draw inputs (count, latent_size) of the generator from the run's generator."""
        draw = normal(rng.torch_stream(STREAM, device))
        return draw((count, self.model.latent_size))

    def gradient_penalty(self, real: Tensor, fake: Tensor, classes: Tensor | None) -> Tensor:
        """Return the mean squared distance () of the discriminator's gradient norm from 1.

        The gradient is taken at random points between real and generated images (Gulrajani et al.
        2017, "Improved Training of Wasserstein GANs", equation 3). It is computed in fp32 in any
        precision: squares of gradients overflow in half precision, and loss scaling, which comes
        later, would not be undone within the square.
        """
        with torch.autocast(real.device.type, enabled=False):
            real = real.float()
            fake = fake.float()
            draw = uniform(rng.torch_stream(STREAM, real.device))
            fractions = draw((len(real), 1, 1, 1))
            between = real.lerp(fake, fractions).requires_grad_()
            logits = self.model(between, classes).sum()
            (gradients,) = torch.autograd.grad(logits, between, create_graph=True)
            norms = (gradients.flatten(1).square().sum(1) + 1e-12).sqrt()
            return (norms - 1).square().mean()

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        directions: dict[str, Direction | None] = {
            "real_score": None,
            "fake_score": None,
            "diversity": None,
        }
        if self.judge is not None:
            directions["distance"] = "min"
            directions["least_share"] = "max"
        return directions

    @torch.no_grad()
    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return scores of as many generated as real images, and a grid of samples.

        Raises:
            ValueError: There are no batches.
        """
        draw = InBlocks(normal(rng.keyed(1)))  # the same noise in every epoch
        columns: dict[str, list[Tensor]] = defaultdict(list)
        for inputs, classes in batches:
            real = self.centered(inputs)
            condition = self.condition(classes)
            noise = draw((len(real), self.model.latent_size))
            noise = noise.to(real.device, non_blocking=True)
            fake = self.model.generate(noise, condition).float()
            for name, images in (("real", real), ("fake", fake)):
                logits = self.model(images, condition)
                columns[f"{name}_score"].append(self.probability(logits))
                columns[name].append(self.features(images))
            columns["classes"].append(classes)
            if self.judge is not None:
                columns["predicted_classes"].append(self.judge(fake).argmax(1))
        if not columns:
            raise ValueError("there is nothing to evaluate: the split is empty")
        joined = {name: torch.cat(parts) for name, parts in columns.items()}
        real_variance = joined["real"].var(dim=0, correction=0).sum()
        fake_variance = joined["fake"].var(dim=0, correction=0).sum()
        scores: dict[str, Any] = {
            "real_score": float(joined["real_score"].mean()),
            "fake_score": float(joined["fake_score"].mean()),
            "diversity": float(fake_variance / real_variance.clamp_min(1e-12)),
        }
        if self.judge is not None:
            shares = self._class_shares(joined["classes"], joined["predicted_classes"])
            scores["distance"] = metrics.frechet_distance(joined["real"], joined["fake"])
            scores["least_share"] = float(shares.values[:, 1].min())
            scores["shares"] = most_different(shares)
        scores["samples"] = Image(self.sample(SHOWN, self.noise).cpu())
        return scores

    def _class_shares(self, classes: Tensor, predicted_classes: Tensor) -> Table:
        """Return the fraction of each class (K, 2) of the data and among the samples."""
        names = self.data.spec.class_names
        in_data = torch.bincount(classes, minlength=len(names))
        in_samples = torch.bincount(predicted_classes, minlength=len(names))
        shares = torch.stack([in_data, in_samples], dim=1).cpu() / len(classes)
        return Table(shares, names, ("of the data", "of the samples"), "class", "share")

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, D) that samples are evaluated by, of images in -1..1.

        They are the outputs of the evaluation classifier's layer before the last, without a
        classifier the pixels.
        """
        if self.judge is not None:
            for layer in list(self.judge.children())[:-1]:
                images = layer(images)
        return images.float().flatten(1)

    def centered(self, inputs: Tensor) -> Tensor:
        """Return standardized images in -1..1, the range of the generator's tanh."""
        return self.pixels(inputs) * 2 - 1

    def condition(self, classes: Tensor) -> Tensor | None:
        """Return the classes (B,) for the networks; None where they are not conditional."""
        return classes if self.model.num_classes else None

    def probability(self, logits: Tensor) -> Tensor:
        """Return the probability (B,) of being real; of a Wasserstein critic the plain score."""
        if self.loss == "wasserstein":
            return logits.float()
        return logits.float().sigmoid()

    def sample(self, count: int, noise: Tensor | None = None) -> Tensor:
        """Return generated images (count, C, H, W) in 0..1.

        Those of a conditional generator are of all classes in turn.
        """
        if noise is None:
            noise = self.draw_noise(count, self.noise.device)
        classes = torch.arange(count, device=noise.device) % max(1, self.model.num_classes)
        images = [
            self.model.generate(part, self.condition(part_classes)).float()
            for part, part_classes in zip(
                noise.split(GENERATED_AT_ONCE), classes.split(GENERATED_AT_ONCE), strict=True
            )
        ]
        return (torch.cat(images) / 2 + 0.5).clamp(0, 1)

    def predict(self, batch: Tensor) -> Tensor:
        """Return the discriminator's probability (B,) that images (B, C, H, W) are real.

        Of a conditional discriminator it is the highest over the classes.
        """
        num_classes = self.model.num_classes
        images = self.centered(batch)
        if not num_classes:
            logits = [self.model(images, None)]
        elif torch.jit.is_tracing() and num_classes > MAX_TRACED_CLASSES:
            raise ValueError("the graph would hold the discriminator once for each class")
        else:
            conditions = [
                torch.full((len(images),), k, device=images.device) for k in range(num_classes)
            ]
            logits = [self.model(images, condition) for condition in conditions]
        return self.probability(torch.stack(logits).amax(0))

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return the probability of being real, of each image."""
        return [{"real": score} for score in outputs.tolist()]


def check_loss(loss: Loss, label_smoothing: float, discriminator: nn.Module) -> None:
    """Raise ValueError if `loss` does not go with label smoothing or with the discriminator."""
    if label_smoothing and loss in ("hinge", "wasserstein"):
        raise ValueError(f"label_smoothing: the {loss} loss has no targets that could be smoothed")
    if loss != "wasserstein":
        return
    batch_norm = nn.modules.batchnorm._BatchNorm
    if any(isinstance(module, batch_norm) for module in discriminator.modules()):
        raise ValueError(
            "loss=wasserstein uses the gradient of each image alone, and batch norm mixes them: "
            "model.discriminator_norm=layer"
        )


def discriminator_loss(kind: Loss, real: Tensor, fake: Tensor, real_target: float = 1.0) -> Tensor:
    """Return the discriminator's loss () from its logits (B,) of real and of generated images.

    `real_target` is the target probability of real images.
    """
    if kind == "least_squares":  # Mao et al. 2017, "Least Squares GANs", equation 9
        return ((real - real_target).square().mean() + fake.square().mean()) / 2
    if kind == "hinge":  # Lim and Ye 2017, "Geometric GAN"
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "wasserstein":  # Arjovsky et al. 2017, "Wasserstein GAN", equation 2
        return fake.mean() - real.mean()
    # Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1, as a cross-entropy.
    real_loss = real_target * F.softplus(-real) + (1 - real_target) * F.softplus(real)
    return real_loss.mean() + F.softplus(fake).mean()


def generator_loss(kind: Loss, fake: Tensor) -> Tensor:
    """Return the generator's loss () from the logits (B,) of generated images.

    The non-saturating loss is -log D, which has a gradient also where the discriminator is sure
    (Goodfellow et al. 2014, section 3); minimax is log(1 - D).
    """
    if kind == "nonsaturating":
        return F.softplus(-fake).mean()
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "least_squares":
        return (fake - 1).square().mean() / 2
    return -fake.mean()
