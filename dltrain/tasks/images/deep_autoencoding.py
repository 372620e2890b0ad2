"""Deep autoencoders from a stack of RBMs: greedy pretraining, unrolling, fine-tuning by back-propagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from torch import nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.images.autoencoding import Autoencoding
from dltrain.tasks.images.pretraining import Pretraining, stack
from dltrain.types import Data, Ge, PositiveInt


class DeepAutoencoding(Autoencoding):
    """Trains a stack of RBMs a layer at a time, unrolls it into an autoencoder and fine-tunes that by the cross-entropy of
    pixels (Hinton and Salakhutdinov 2006). `pretrain_epochs` 0 leaves out the pretraining. The optimizer of the RBMs is
    `optimizers.rbm`, of the last, whose hidden units are normal, `optimizers.code`.
    """

    networks = ("rbm", "code")

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        pretrain_epochs: Annotated[int, Ge(0)] = 6,
        gibbs_steps: PositiveInt = 1,
        method: Literal["contrastive_divergence", "persistent"] = "contrastive_divergence",
        watch: str = "val/error",
        mode: Direction | None = None,
    ) -> None:
        rbms = stack(model, "unrolled_autoencoder")
        super().__init__(data, model, optim, epochs, "cross_entropy", watch=watch, mode=mode)
        self.pretraining = Pretraining(data, rbms, optim, pretrain_epochs, gibbs_steps, method)

    def stages(self) -> Iterator[Stage]:
        yield from self.pretraining.stages()
        if self.pretraining.epochs:
            self.model.unroll()
        yield from super().stages()
