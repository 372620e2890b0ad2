"""Deep belief nets: greedy pretraining without labels, then fine-tuning as a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.directions import better
from dltrain.tasks.images.pretraining import Pretraining, stack
from dltrain.tasks.labelled import Labelled
from dltrain.tasks.supervised import supervised
from dltrain.types import Data, Ge, PositiveInt


class DeepBelief(Classification):
    """Trains a stack of RBMs a layer at a time, then all of it as a classifier (Hinton, Osindero, Teh 2006).

    `pretrain_epochs` of each layer are by CD-`gibbs_steps`; 0 leaves out the pretraining, and the same network learns
    from its initial weights. `labels` is of how many training samples at most fine-tuning sees the label. The optimizer of
    the RBMs is `optimizers.rbm`; trainer.epochs are those of the fine-tuning. Scores are those of a classification.
    """

    networks = ("rbm",)

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        pretrain_epochs: Annotated[int, Ge(0)] = 6,
        gibbs_steps: PositiveInt = 1,
        method: Literal["contrastive_divergence", "persistent"] = "contrastive_divergence",
        labels: PositiveInt | None = None,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode, top_k, metrics)
        self.pretraining = Pretraining(
            data, stack(model, "deep_belief_net"), optim, pretrain_epochs, gibbs_steps, method
        )
        self.labels = labels

    def stages(self) -> Iterator[Stage]:
        yield from self.pretraining.stages()
        train = self.data.train if self.labels is None else Labelled(self.data.train, self.labels)
        yield from supervised(
            train,
            self.data.val,
            self.model,
            self.loss,
            self.optim,
            self.epochs,
            self.evaluate,
            self.watch,
            better(self, self.watch, self.mode),
        )
