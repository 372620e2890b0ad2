"""Adversarial learning: a generator of images against a discriminator that tells them from real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import metrics, rng
from dltrain.engine import Direction, Stage, Task
from dltrain.optim import Optim
from dltrain.tasks.directions import better
from dltrain.tasks.images.pixels import Pixels
from dltrain.tasks.many_classes import most_different
from dltrain.tasks.noise import InBlocks, normal
from dltrain.types import Data, Fraction, Image, NonNegative, PositiveInt, Table

STREAM = "noise"  # the run's generator of what training draws
SHOWN = 64  # samples in a grid
AT_ONCE = 256  # samples that `sample` makes
MAX_TRACED_CLASSES = 100  # of a conditional discriminator, which predicts once for each class
Loss = Literal["nonsaturating", "minimax", "least_squares", "hinge", "wasserstein"]
DISTANCE = "val/distance"


@runtime_checkable
class Adversaries(Protocol):
    """Two networks; called, the second says how real images (B, C, H, W) in -1..1 look, as logits (B,)."""

    generator: nn.Module
    discriminator: nn.Module
    latent_size: int
    num_classes: int  # 0 where neither is told the class

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor: ...
    def __call__(self, images: Tensor, classes: Tensor | None = None) -> Tensor: ...


class Adversarial(Task):
    """Learns to make images like those of the data (Goodfellow et al. 2014). Batches are (images (B, C, H, W), classes (B,)).

    In a step the discriminator is updated, then the generator against the updated one; with `discriminator_steps` only in
    every so many-th step. Where several batches make one update (trainer.accumulate), all but the last of the generator's
    losses in it are against the discriminator as it was before. `label_smoothing` takes the target of real images down
    from 1 (one-sided, Salimans et al. 2016). `penalty` weighs the gradient penalty of the Wasserstein loss.

    `judge` is a classifier that a first stage trains on the same data for `judge_epochs`; its features and answers then
    measure the samples: `distance` is the Frechet distance between features of real and generated images (no FID, which
    is of another network's), `least_share` the share of the rarest class among the samples, `diversity` the variance of the
    samples' features (without a judge, pixels) over that of real images': near 0 the generator has collapsed.

    ValueError for data or a model that this does not fit, and for a loss that a setting does not belong to.
    """

    networks = ("generator", "discriminator", "judge")
    mixes = False  # the generator would learn the mixtures
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
        if not isinstance(model, Adversaries):
            raise ValueError(
                "this model is no pair of a generator and a discriminator: model=gan or dcgan is"
            )
        if label_smoothing and loss in ("hinge", "wasserstein"):
            raise ValueError(
                f"label_smoothing: the {loss} loss has no targets that could be smoothed"
            )
        norms = [
            m
            for m in model.discriminator.modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm)
        ]
        if loss == "wasserstein" and norms:
            raise ValueError(
                "loss=wasserstein looks at the gradient of each image alone, and batch norm mixes them: "
                "model.discriminator_norm=layer"
            )
        if judge is not None and not (isinstance(judge, nn.Sequential) and data.spec.class_names):
            raise ValueError(
                "judge: expected a sequential classifier, and data with classes (task.judge=null for none)"
            )
        self.pixels = Pixels(data.spec, "adversarial learning")
        self.model: Any = model
        self.judge, self.judge_epochs = judge, judge_epochs
        self.data, self.optim, self.epochs, self.mode = data, optim, epochs, mode
        self.watch = "" if judge is None and watch == DISTANCE else watch
        self.loss, self.discriminator_steps, self.penalty = loss, discriminator_steps, penalty
        self.real_target = 1 - label_smoothing
        points = torch.randn(SHOWN, self.model.latent_size, generator=rng.keyed(0))
        self.register_buffer(
            "noise", points, persistent=False
        )  # the same in every epoch, so that pictures compare

    def stages(self) -> Iterator[Stage]:
        rng.torch_stream(STREAM, self.noise.device)
        held_out = self.data.val if self.data.val.samples else None
        steps = len(self.data.train)
        if self.judge is not None:
            optim = self.optim(self.judge, self.judge_epochs * steps, "judge", "max")
            yield Stage(
                name="judge",
                epochs=self.judge_epochs,
                batches=self.data.train,
                step=lambda batch: self.learn_to_judge(batch, optim),
                held_out=held_out,
                evaluate=self.judge_accuracy,
                optims=(optim,),
                watch="val/accuracy",
            )
        steps *= self.epochs
        discriminating = self.optim(self.model.discriminator, steps, "discriminator")
        generating = self.optim(
            self.model.generator, max(1, steps // self.discriminator_steps), "generator"
        )
        yield Stage(
            name="adversarial",
            epochs=self.epochs,
            batches=self.data.train,
            step=lambda batch: self.step(batch, generating, discriminating),
            held_out=held_out,
            evaluate=self.evaluate,
            optims=(generating, discriminating),
            watch=self.watch,
            mode=better(self, self.watch, self.mode),
        )

    def step(
        self, batch: tuple[Tensor, Tensor], generating: Optim, discriminating: Optim
    ) -> dict[str, Tensor]:
        real, classes = self.centred(batch[0]), self.told(batch[1])
        turn = (discriminating.updates + 1) % self.discriminator_steps == 0
        with torch.set_grad_enabled(turn):
            fake = self.model.generate(self.drawn_noise(len(real), real.device), classes)
        seen = fake.detach()
        of_real, of_fake = self.model(real, classes), self.model(seen, classes)
        loss = discriminator_loss(self.loss, of_real.float(), of_fake.float(), self.real_target)
        if self.loss == "wasserstein" and self.penalty:
            loss = loss + self.penalty * self.gradient_penalty(real, seen, classes)
        discriminating.update(loss, weight=len(real))
        found = {"discriminator_loss": loss.detach()}
        if turn:
            loss = generator_loss(self.loss, self.model(fake, classes).float())
            generating.update(loss, weight=len(real))
            found["loss"] = loss.detach()
        return found

    def drawn_noise(self, count: int, device: torch.device) -> Tensor:
        """Draw points (count, latent_size) of the generator's input."""
        generator = rng.torch_stream(STREAM, device)
        return torch.randn(count, self.model.latent_size, device=device, generator=generator)

    def gradient_penalty(self, real: Tensor, fake: Tensor, classes: Tensor | None) -> Tensor:
        """How far the discriminator's slope is from 1 between real and generated images (Gulrajani et al. 2017, equation 3).

        In fp32 whatever the precision: squares of gradients overflow in half precision, and loss scaling, which comes
        later, would not be undone within the square.
        """
        with torch.autocast(real.device.type, enabled=False):
            real, fake = real.float(), fake.float()
            generator = rng.torch_stream(STREAM, real.device)
            shares = torch.rand(len(real), 1, 1, 1, device=real.device, generator=generator)
            between = real.lerp(fake, shares).requires_grad_()
            (slopes,) = torch.autograd.grad(
                self.model(between, classes).sum(), between, create_graph=True
            )
            return ((slopes.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()

    def learn_to_judge(self, batch: tuple[Tensor, Tensor], optim: Optim) -> dict[str, Tensor]:
        assert self.judge is not None
        loss = F.cross_entropy(self.judge(self.centred(batch[0])), batch[1])
        optim.update(loss, weight=len(batch[0]))
        return {"loss": loss.detach()}

    def judge_accuracy(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        assert self.judge is not None
        right = torch.cat(
            [self.judge(self.centred(images)).argmax(1) == classes for images, classes in batches]
        )
        return {"accuracy": float(right.float().mean())}

    def directions(self) -> dict[str, Direction | None]:
        unordered: dict[str, Direction | None] = dict.fromkeys(
            ("real_score", "fake_score", "diversity")
        )
        return (
            unordered
            if self.judge is None
            else {**unordered, "distance": "min", "least_share": "max"}
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Real and generated images, as many of each, against each other; and a grid of samples."""
        draw = InBlocks(normal(rng.keyed(1)))  # the same noise in every epoch
        columns: dict[str, list[Tensor]] = {}
        for inputs, classes in batches:
            real, told = self.centred(inputs), self.told(classes)
            noise = draw((len(real), self.model.latent_size)).to(real.device)
            fake = self.model.generate(noise, told).float()
            for name, images in (("real", real), ("fake", fake)):
                columns.setdefault(f"{name}_score", []).append(
                    self.probability(self.model(images, told))
                )
                columns.setdefault(name, []).append(self.features(images))
            columns.setdefault("classes", []).append(classes)
            if self.judge is not None:
                columns.setdefault("answers", []).append(self.judge(fake).argmax(1))
        if not columns:
            raise ValueError("there is nothing to evaluate: the split is empty")
        found = {name: torch.cat(parts) for name, parts in columns.items()}
        scores: dict[str, Any] = {
            name: float(found[name].mean()) for name in ("real_score", "fake_score")
        }
        spread = {name: found[name].var(dim=0, correction=0).sum() for name in ("real", "fake")}
        scores["diversity"] = float(spread["fake"] / spread["real"].clamp_min(1e-12))
        if self.judge is not None:
            names = self.data.spec.class_names
            counts = [
                torch.bincount(found[name], minlength=len(names)) for name in ("classes", "answers")
            ]
            shares = torch.stack(counts, dim=1).cpu() / len(found["real"])
            scores["distance"] = metrics.frechet_distance(found["real"], found["fake"])
            scores["least_share"] = float(shares[:, 1].min())
            table = Table(shares, names, ("of the data", "of the samples"), "class", "share")
            scores["shares"] = most_different(table)
        return scores | {"samples": Image(self.sample(SHOWN, self.noise).cpu())}

    def features(self, images: Tensor) -> Tensor:
        """What samples are measured by (B, D): the judge's last layer but one, or without one the pixels."""
        for layer in list(self.judge.children())[:-1] if self.judge is not None else ():
            images = layer(images)
        return images.float().flatten(1)

    def centred(self, inputs: Tensor) -> Tensor:
        """Images in -1..1, what the generator's tanh makes."""
        return self.pixels(inputs) * 2 - 1

    def told(self, classes: Tensor) -> Tensor | None:
        """What the networks are told of the classes."""
        return classes if self.model.num_classes else None

    def probability(self, logits: Tensor) -> Tensor:
        """Of being real; a Wasserstein critic has no probabilities, only a scale."""
        return logits.float() if self.loss == "wasserstein" else logits.float().sigmoid()

    def sample(self, count: int, noise: Tensor | None = None) -> Tensor:
        """Images (count, C, H, W) in 0..1; of a conditional generator all classes in turn."""
        if noise is None:
            noise = self.drawn_noise(count, self.noise.device)
        classes = torch.arange(count, device=noise.device) % max(1, self.model.num_classes)
        parts = zip(noise.split(AT_ONCE), classes.split(AT_ONCE), strict=True)
        made = torch.cat([self.model.generate(z, self.told(c)).float() for z, c in parts])
        return (made / 2 + 0.5).clamp(0, 1)

    def predict(self, batch: Tensor) -> Tensor:
        """How real images (B, C, H, W) look to the discriminator (B,); of a conditional one as the likeliest class."""
        if torch.jit.is_tracing() and self.model.num_classes > MAX_TRACED_CLASSES:
            raise ValueError("the graph would hold the discriminator once for each class")
        images = self.centred(batch)
        classes = range(self.model.num_classes) or [None]
        told = [
            None if c is None else torch.full((len(images),), c, device=images.device)
            for c in classes
        ]
        return self.probability(torch.stack([self.model(images, c) for c in told]).amax(0))

    def prediction_rows(self, outputs: Tensor) -> list[dict[str, float]]:
        """What `predict` gave for each image."""
        return [{"real": score} for score in outputs.tolist()]


def discriminator_loss(kind: Loss, real: Tensor, fake: Tensor, real_target: float = 1.0) -> Tensor:
    """Of logits (B,) of real and of generated images; `real_target` is the probability that real ones should get."""
    if kind == "least_squares":  # Mao et al. 2017, equation 9
        return ((real - real_target).square().mean() + fake.square().mean()) / 2
    if kind == "hinge":  # Lim and Ye 2017
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if (
        kind == "wasserstein"
    ):  # Arjovsky et al. 2017: the critic's scores, as far apart as its slope allows
        return fake.mean() - real.mean()
    of_real = real_target * F.softplus(-real) + (1 - real_target) * F.softplus(real)
    return (
        of_real.mean() + F.softplus(fake).mean()
    )  # Goodfellow et al. 2014, equation 1, as a cross-entropy


def generator_loss(kind: Loss, fake: Tensor) -> Tensor:
    """Of logits (B,) of generated images. The non-saturating one, -log D, has a gradient also where the discriminator is
    sure (Goodfellow et al. 2014, section 3); minimax is log(1 - D)."""
    if kind == "nonsaturating":
        return F.softplus(-fake).mean()
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "least_squares":
        return (fake - 1).square().mean() / 2
    return -fake.mean()
