"""Building an experiment: what one choice sets elsewhere, and in which order."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.errors import ConfigError, InputError
from dltrain.experiment.experiment import Experiment
from dltrain.optim import Optim
from dltrain.preprocessing.flip import Flip
from dltrain.regularization.l1 import L1


def built(*overrides: str) -> Experiment:
    composed = compose(list(overrides))
    assert not composed.problems
    return Experiment.on_fake_data(composed.config).build()


def test_preprocessing_reaches_the_training_batches_and_no_others() -> None:
    """A flip of every image, against the same run without: the training batches differ by it,
    validation does not.
    """
    plain, flipped = (
        built("preprocessing=[]"),
        built("preprocessing=[flip]", "preprocessing.flip.p=1.0"),
    )
    (x, y), (fx, fy) = (next(e.data.train.epoch(0)) for e in (plain, flipped))
    assert torch.equal(x.flip(3), fx)
    assert not torch.equal(x, fx)
    assert torch.equal(y, fy)
    assert torch.equal(next(plain.data.val.epoch(0))[0], next(flipped.data.val.epoch(0))[0])


def test_a_batch_with_augmentation_is_a_function_of_its_position() -> None:
    """Begun in the middle of an epoch, the batches are the same; another epoch draws again."""
    train = built("preprocessing=[flip]", "dataset.batch_size=4").data.train
    whole, tail = list(train.epoch(1)), list(train.epoch(1, start=2))
    for (x, y), (tx, ty) in zip(whole[2:], tail, strict=True):
        assert torch.equal(x, tx)
        assert torch.equal(y, ty)
    assert not torch.equal(whole[0][0], next(train.epoch(2))[0])


def test_image_preprocessing_of_what_is_no_image_is_a_configuration_error() -> None:
    with pytest.raises(ValueError, match="works on images"):
        Flip().shape((8,))


def test_a_choice_that_is_no_option_says_what_is_meant(dltrain) -> None:
    outcome = dltrain("check", "preprocessing=[flipp]")
    assert outcome.code == 2
    assert "did you mean flip?" in outcome.err


def test_a_penalty_moves_every_group_by_its_own_rate() -> None:
    """L1 after a step of two groups with rates 1 and 0.1 and no gradient: each weight shrinks by
    rate * penalty.
    """
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    for p in net.parameters():
        nn.init.ones_(p)

    def two_groups(params: list[Tensor]) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": params[:1], "lr": 1.0},
            {"params": params[1:], "lr": 0.1},
        ]
        return torch.optim.SGD(groups)

    optim = Optim(net, functools.partial(two_groups), penalties=[L1(0.5)])
    optim.update(0 * sum(p.sum() for p in net.parameters()))
    assert net[0].weight.unique().tolist() == pytest.approx([0.5])
    assert net[1].weight.unique().tolist() == pytest.approx([0.95])


def test_what_one_choice_sets_another_may_not_set_too() -> None:
    with pytest.raises(ConfigError, match=r"optim.average is set by another choice already"):
        built("regularization=[ema,averaging]")


def test_an_experiment_builds_only_what_is_used() -> None:
    """Whatever is wrong with another part stays unnoticed; `build` builds all of them."""
    config = compose(["init.from=no/such/run"]).config
    experiment = Experiment.to_train(config)
    assert experiment.trainer.epochs == config["trainer"]["epochs"]
    assert experiment.model is experiment.model
    with pytest.raises(InputError, match=r"no run under|no run is called"):
        experiment.build()


@pytest.mark.parametrize("make", [Experiment.to_evaluate, Experiment.to_predict])
def test_a_trained_run_does_not_look_for_the_weights_that_it_started_with(make: Any) -> None:
    """The run of init.from may be gone; the checkpoint has all weights."""
    experiment = make(compose(["init.from=no/such/run"]).config, None)
    assert experiment.build().initial_weights is None


def test_predictions_read_new_inputs_without_the_training_data() -> None:
    """The task gets fake data; the configured data set, which is not read, encodes inputs."""
    config = compose(["dataset=synthetic"]).config
    experiment = Experiment.to_predict(config, None).build()
    assert experiment.data is not experiment.configured_data
    assert experiment.data.spec.input_shape == experiment.configured_data.spec.input_shape


def test_parts_that_are_built_in_another_order_draw_the_same_weights() -> None:
    config = compose(["dataset=synthetic"]).config
    whole = Experiment.on_fake_data(config).build()
    parts = Experiment.on_fake_data(config)
    _ = parts.optim_factory, parts.data
    torch.testing.assert_close(parts.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
