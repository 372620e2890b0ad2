"""Ensembles of classifiers: several networks are trained in turn, and their predictions combined.

Legend of the shapes: M members, B inputs, K classes, N validation samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from dltrain.engine import Direction, Mean, Metrics, Stage
from dltrain.optim import Optim
from dltrain.tasks.calibration.final_stages import FirstTrainingBatch, with_averages
from dltrain.tasks.classification import Classification, Outputs
from dltrain.tasks.ensembles.batches import Folds, OwnEpochs, WithoutFold
from dltrain.tasks.ensembles.combiners import Combine
from dltrain.tasks.ensembles.learning import learned_rule, out_of_fold
from dltrain.tasks.ensembles.member_scores import FIGURES, MemberScores
from dltrain.tasks.ensembles.networks import Ensembled, member_logits
from dltrain.tasks.images.explanation import hires_cam
from dltrain.tasks.images.views import View, mean_logits
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, DataSplit, FinishedRuns, NetworkFactory, NonNegative, PositiveInt

DEFAULT_MEMBERS = 5
RUNS = "task.runs"
MODEL = "model."  # before the names of weights of a single network
Method: TypeAlias = Literal["seeds", "shared", "snapshot", "folds"]
SAME_LAYERS = (
    "{setting} needs members with the same layers, of which task.models and task.runs are not; set "
    "{advice}"
)


class Ensemble(Classification):
    """Trains several classifiers one after the other, and combines their predictions.

    The members are `members` networks like the configured `model`, or that one and the `models`, or
    the networks of the finished `runs`, which are not trained. Any other is trained for
    trainer.epochs epochs in a stage of its own, "member_1" and so on, by the loss and the optimizer
    of the configuration. They differ by the `method`:

    * seeds: each has initial weights and an order of samples of its own (Lakshminarayanan et al.
      2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles").
    * shared: all begin with the same weights, those of init.from for example, and differ in the
      order of samples.
    * snapshot: each continues with the weights of the one before. With schedule=cosine, this is the
      cyclic learning rate of Huang et al. 2017, "Snapshot Ensembles: Train 1, Get M for Free",
      equation 2; the optimizer's moments start again.
    * folds: as seeds, and each leaves out its own of M folds of the training samples. The accuracy
      of the predictions for these is logged in a last stage "combine".

    Their predictions are combined by the rule `combine`: the mean of the probabilities, a majority
    vote, stacking, or a soup, which averages weights (see `combiners`, `networks`). What the last
    two learn, they learn from validation samples in the stage "combine". Members are used with
    the weights, or averaged weights, that their stage ended with. Evaluations of the last stage are
    those of the ensemble, with the scores of the members beside it.

    Raises:
        ValueError: The settings do not fit together, or there are no validation samples to learn
            from.
    """

    divisible = False
    run_keys = ("runs",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        network_factory: NetworkFactory,
        finished_runs: FinishedRuns,
        members: PositiveInt | None = None,
        models: dict[str, nn.Module] | None = None,
        runs: tuple[str | int, ...] = (),
        method: Method = "seeds",
        combine: Combine = "mean",
        penalty: NonNegative = 0.01,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        views: tuple[View, ...] = (),
    ) -> None:
        require_fitting(members, models or {}, runs, method, combine)
        opened = [finished_runs.network(RUNS, name) for name in runs]
        networks = [network.model for network in opened]
        if not opened:
            networks = [model, *further_members(network_factory, members, models or {})]
        rule = learned_rule(combine, networks, data, penalty)
        super().__init__(
            data, rule.network, loss, optim, epochs, watch, mode, top_k, metrics, views
        )
        if used_names := self.metrics.keys() & self._member_directions().keys():
            raise ValueError(
                f"metrics.{min(used_names)}: a score of an ensemble has this name; choose another"
            )
        self.fit = rule.fit
        self.method = method
        self.is_trained = not opened
        self.names = names_of_equals(len(networks))
        if models:
            self.names = ["model", *models]
        if opened:
            self.names = [network.name for network in opened]
        self.folds: Folds | None = None
        if method == "folds":
            self.folds = Folds(data.train, len(networks))

    @property
    def ensemble(self) -> Ensembled:
        """The network of all members."""
        return cast(Ensembled, self.model)

    def trained_network(self, model: nn.Module) -> nn.Module:
        """Return the network of all members."""
        return self.model

    def named_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the initial weights of one network as those of every member."""
        named = dict(weights)
        for number in range(len(self.ensemble.members)):
            for name, value in weights.items():
                if name.startswith(MODEL):
                    named[f"{MODEL}members.{number}.{name.removeprefix(MODEL)}"] = value
        return named

    def stages(self) -> Iterator[Stage]:
        """Yield a stage for each member, then "combine" where there is something to do in it."""
        if not self.is_trained:
            yield self._combining_stage()
            return
        networks = self.ensemble.members
        if self.method == "shared":
            for network in networks[1:]:
                network.load_state_dict(networks[0].state_dict())
        *earlier, last = range(len(networks))
        for number in earlier:
            yield from with_averages(self._member_stage(number))
            if self.method == "snapshot":
                networks[number + 1].load_state_dict(networks[number].state_dict())
        stage = self._member_stage(last)
        if self.fit is None and self.folds is None:
            yield replace(stage, **self._own_evaluation())
            return
        yield from with_averages(stage)
        yield self._combining_stage()

    def _member_stage(self, number: int) -> Stage:
        """Return the stage that trains member `number`, counted from 0, and scores it alone."""
        member = Classification(
            self.data,
            self.ensemble.members[number],
            self.loss,
            self.optim,
            self.epochs,
            top_k=self.top_k,
            metrics=self.metrics,
            views=tuple(self.views),  # type: ignore[arg-type]
        )
        if self.watch.removeprefix("val/") in member.directions():
            member.watch = self.watch
            member.mode = self.mode
        training = member.supervised().stages(self._batches(number), validation_split(self.data))
        return replace(next(training), name=f"member_{number + 1}", objective=None)

    def _batches(self, number: int) -> DataSplit:
        """Return the training batches of a member."""
        if self.folds is not None:
            return WithoutFold(self.folds, number)
        return OwnEpochs(self.data.train, number)

    def _own_evaluation(self) -> dict[str, Any]:
        """Return the parts of the last stage that make its evaluation that of the ensemble."""
        whole = self.supervised()
        return {"evaluate": self.evaluate, "watch": whole.watch, "mode": whole.mode}

    def _combining_stage(self) -> Stage:
        """Return the stage whose only step combines the trained members."""
        return Stage(
            name="combine",
            epochs=1,
            batches=FirstTrainingBatch(self.data.train),
            step=lambda batch: self._combined_members(),
            held_out=validation_split(self.data),
            combines_scores=True,
            **self._own_evaluation(),
        )

    def _combined_members(self) -> Metrics:
        """Learn how to combine the members; return what is logged of it and of their folds."""
        metrics: dict[str, Tensor | Mean] = {}
        if self.folds is not None:
            metrics |= out_of_fold(self.ensemble.members, self.folds, self.data.train)
        if self.fit is not None:
            metrics |= self.fit()
        return metrics

    def directions(self) -> dict[str, Direction | None]:
        """Return the direction of each metric; see `Task.directions`."""
        return {**super().directions(), **self._member_directions()}

    def _member_directions(self) -> dict[str, Direction | None]:
        """Return the directions of the scores of the members."""
        numbers = range(1, len(self.ensemble.members) + 1)
        return {**FIGURES, **{f"member_{number}": "max" for number in numbers}}

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """Return the scores of the ensemble and of its members over all batches, and pictures.

        They are {} in another than the first of several processes.

        Raises:
            ValueError: There are no batches.
        """
        members = MemberScores(self.names)
        scores = self.scores_of(self._scored_outputs(batches, members), members)
        return {**scores, **members.compute()} if scores else {}

    def _scored_outputs(
        self, batches: Iterable[tuple[Tensor, Tensor]], members: MemberScores
    ) -> Outputs:
        """Yield inputs, targets and the ensemble's logits of each batch; `members` are scored."""
        for inputs, targets in batches:
            if self.views:
                each = [mean_logits(member, inputs, self.views) for member in self.ensemble.members]
                logits = torch.stack(each)
                combined = self.logits(inputs)
            else:
                logits = member_logits(self.ensemble.members, inputs)
                combined = self.ensemble.combined(inputs, logits)
            members.update(logits, combined, targets)
            yield inputs, targets, combined

    def evidence(self, inputs: Tensor) -> Tensor:
        """Return the evidence (B, H, W) in images (B, C, H, W) for their predicted classes.

        It is the mean over the members of that for the ensemble's class.
        """
        with torch.no_grad():
            classes = self.logits(inputs).argmax(dim=1)
        each = [hires_cam(member, inputs, classes) for member in self.ensemble.members]
        return torch.stack(each).mean(dim=0)


def require_fitting(
    members: int | None,
    models: dict[str, nn.Module],
    runs: Sequence[str | int],
    method: Method,
    combine: Combine,
) -> None:
    """Raise ValueError if the settings of an ensemble do not fit together."""
    if runs and (models or members is not None):
        raise ValueError("runs: the members are those runs; leave out task.members and task.models")
    if runs and method != "seeds":
        raise ValueError(f"method={method} is about training, and finished runs are not trained")
    if runs and combine == "soup":
        raise ValueError(SAME_LAYERS.format(setting="combine=soup", advice="combine=mean"))
    if models and members is not None:
        raise ValueError("members: leave it out with task.models, or leave out task.models")
    if models and method in ("shared", "snapshot"):
        raise ValueError(SAME_LAYERS.format(setting=f"method={method}", advice="method=seeds"))
    if models and combine == "soup":
        raise ValueError(SAME_LAYERS.format(setting="combine=soup", advice="combine=mean"))
    if method == "folds" and members == 1:
        raise ValueError("method=folds: the only member would have no samples; set members=2")


def further_members(
    networks: NetworkFactory, members: int | None, models: dict[str, nn.Module]
) -> list[nn.Module]:
    """Return the members of an ensemble after the first, with initial weights."""
    if models:
        for model in models.values():
            networks.initialize_model(model)
        return list(models.values())
    if members is None:
        members = DEFAULT_MEMBERS
    return [networks.another_model(number) for number in range(1, members)]


def names_of_equals(count: int) -> list[str]:
    """Return names for members with the same layers."""
    return [f"member {number}" for number in range(1, count + 1)]
