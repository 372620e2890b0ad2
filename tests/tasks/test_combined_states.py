"""States of an evaluation that several processes share equal those of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.distributed.evaluating import loaded, own_part, saved
from dltrain.losses import MSE, CrossEntropy, LossSums
from dltrain.metrics import WorstMistakes
from dltrain.tasks import regression_scores, roc_scores, score_states
from dltrain.tasks.classification_scores import ClassificationScores
from dltrain.tasks.ensembles.member_scores import MemberScores
from dltrain.tasks.forecasting import NaiveErrors
from dltrain.tasks.regression_scores import RegressionScores
from dltrain.tasks.score_states import PairCounts, SampledRows
from dltrain.types.combining import Combinable, States, combined, combining
from dltrain.types.rows import Share

CPU = torch.device("cpu")
BATCH = 8
PROCESSES = pytest.mark.parametrize("processes", [1, 2, 3])


class Batched:
    """Tensors (N, ...) in batches of `BATCH` rows, of which the last may have fewer."""

    batch_size = BATCH

    def __init__(self, *columns: Tensor) -> None:
        self.batches = list(zip(*(column.split(BATCH) for column in columns), strict=True))
        self.samples = len(columns[0])

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0) -> Any:
        return iter(self.batches[start:])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def divided(
    make: Callable[[], Any], add: Callable[..., None], split: Batched, processes: int
) -> Any:
    """Return the state of process 0 after each process has added its batches to one of its own."""
    contents: list[bytes] = []

    def send(states: Sequence[Combinable]) -> None:
        contents.append(saved(states))

    def receive(states: Sequence[Combinable]) -> Sequence[States]:
        return [loaded(content, CPU) for content in contents]

    def scored(rank: int, exchange: Any) -> tuple[Any, bool]:
        batches, first_row = own_part(split, Share(rank, processes))
        with combining(exchange, first_row):
            state = make()
            for batch in batches:
                add(state, *batch)
            return state, combined(state)

    for rank in range(1, processes):
        _, has_scores = scored(rank, send)
        assert not has_scores
    state, has_scores = scored(0, receive)
    assert has_scores
    return state


def logits_and_targets(count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, classes, generator=generator)
    return logits, torch.randint(0, classes, (count,), generator=generator)


@PROCESSES
@pytest.mark.parametrize("max_rows", [2, 7, 64, 1000])
@pytest.mark.parametrize("chunk_bytes", [8, 40, 4000])
@pytest.mark.parametrize("count", [50, 51, 52, 333])
def test_rows_are_those_of_one_stream(
    processes: int,
    max_rows: int,
    chunk_bytes: int,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(score_states, "CHUNK_BYTES", chunk_bytes)
    whole = SampledRows(max_rows)
    whole.keep(torch.arange(count))
    rows = divided(
        lambda: SampledRows(max_rows), SampledRows.keep, Batched(torch.arange(count)), processes
    )
    assert rows.column(0).tolist() == whole.column(0).tolist()
    assert (rows.total_rows, rows.level) == (count, whole.level)
    rows.keep(torch.arange(count, count + 100))
    whole.keep(torch.arange(count, count + 100))
    assert rows.column(0).tolist() == whole.column(0).tolist()


@PROCESSES
@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize("is_bounded", [False, True])
def test_scores_of_classes_are_those_of_one_process(
    processes: int, classes: int, is_bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven batches; bounded states have fewer rows and pairs of classes than samples."""
    if is_bounded:
        monkeypatch.setattr(roc_scores, "MAX_KEPT_ROWS", 16)
        monkeypatch.setattr(roc_scores, "MAX_TRUE_SCORES", 32)
        monkeypatch.setattr(score_states, "MAX_TABLE_CLASSES", 2)
        monkeypatch.setattr(score_states, "PENDING_PAIRS", 10)
    logits, targets = logits_and_targets(52, classes)

    def make() -> ClassificationScores:
        return ClassificationScores(classes, keep_logits=True)

    whole = make()
    whole.update(logits, targets)
    gathered = divided(make, ClassificationScores.update, Batched(logits, targets), processes)
    assert torch.equal(gathered.all_logits()[0], logits)
    assert torch.equal(gathered.all_logits()[1], targets)
    one, other = whole.compute(), gathered.compute()
    assert one.calibration.figures == other.calibration.figures
    for field in fields(one):
        expected, actual = getattr(one, field.name), getattr(other, field.name)
        if field.name == "calibration":
            continue
        if isinstance(expected, Tensor):
            torch.testing.assert_close(actual, expected, equal_nan=True, msg=field.name)
        else:
            assert actual == pytest.approx(expected, nan_ok=True), field.name


@PROCESSES
def test_rare_pairs_of_classes_are_dropped(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_states, "MAX_TABLE_CLASSES", 2)
    monkeypatch.setattr(score_states, "MAX_PAIRS", 12)
    logits, targets = logits_and_targets(100, 30)
    split = Batched(targets, logits.argmax(dim=1))
    counts = divided(lambda: PairCounts(30), PairCounts.add, split, processes)
    pairs = counts.pairs()
    assert len(pairs) <= 12
    assert int(pairs[:, 2].sum()) + counts.lost_samples == 100
    assert counts.by_class()[0].tolist() == torch.bincount(targets, minlength=30).tolist()


@PROCESSES
@pytest.mark.parametrize("max_rows", [2**22, 16])
def test_errors_of_a_regression_are_those_of_one_process(
    processes: int, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second target is constant: its R2 is 0 exactly."""
    monkeypatch.setattr(regression_scores, "MAX_KEPT_ROWS", max_rows)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(52, 3, generator=generator)
    targets = torch.randn(52, 3, generator=generator) + 5
    targets[:, 1] = 2
    gathered = divided(
        lambda: RegressionScores(3), RegressionScores.update, Batched(outputs, targets), processes
    )
    whole = RegressionScores(3)
    whole.update(outputs, targets)
    ones, zeros = torch.ones(3).double(), torch.zeros(3).double()
    expected = whole.figures(ones, zeros)
    actual = gathered.figures(ones, zeros)
    for name, values in expected.items():
        torch.testing.assert_close(actual[name], values, rtol=1e-5, atol=1e-6, msg=name)
    assert float(actual["r2"][1]) == 0
    assert torch.equal(gathered.kept(ones, zeros)[0], whole.kept(ones, zeros)[0])
    naive = divided(lambda: NaiveErrors(3), NaiveErrors.update, Batched(outputs), processes)
    naive_of_one = NaiveErrors(3)
    naive_of_one.update(outputs)
    assert naive.rmse(ones) == pytest.approx(naive_of_one.rmse(ones), rel=1e-6)


@PROCESSES
def test_losses_and_mistakes_are_those_of_one_process(processes: int) -> None:
    logits, targets = logits_and_targets(52, 4)
    inputs = torch.arange(52)
    split = Batched(inputs, logits, targets)
    weighted = CrossEntropy(class_weights=(1.0, 2.0, 3.0, 4.0), num_classes=4)

    def add_loss(sums: LossSums, numbers: Tensor, some_logits: Tensor, some: Tensor) -> None:
        sums.add(weighted, some_logits, some)

    losses = divided(LossSums, add_loss, split, processes)
    assert losses.mean() == pytest.approx(float(weighted(logits, targets)), rel=1e-6)
    mistakes = divided(WorstMistakes, WorstMistakes.update, split, processes)
    whole = WorstMistakes()
    whole.update(inputs, logits, targets)
    for one, other in zip(whole.compute(), mistakes.compute(), strict=True):
        assert torch.equal(one, other)


@PROCESSES
def test_scores_of_members_are_those_of_one_process(processes: int) -> None:
    """The logits of three members are columns of a row here."""
    logits, targets = logits_and_targets(52, 12)

    def add(scores: MemberScores, rows: Tensor, some: Tensor) -> None:
        members = rows.view(-1, 3, 4).transpose(0, 1)
        scores.update(members, members.mean(dim=0), some % 4)

    def make() -> MemberScores:
        return MemberScores(["a", "b", "c"])

    whole = make()
    add(whole, logits, targets)
    expected = whole.compute()
    gathered = divided(make, add, Batched(logits, targets), processes).compute()
    expected_table = expected.pop("members")
    table = gathered.pop("members")
    torch.testing.assert_close(table.values, expected_table.values, equal_nan=True)
    assert gathered == pytest.approx(expected)


def test_sums_of_many_batches_are_sent_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = LossSums()
    for _ in range(5000):
        sums.add(MSE(), torch.ones(1, 1), torch.zeros(1, 1))
    content = saved((sums,))
    assert len(content) < 4000
    (other,) = loaded(content, CPU)
    sums.merge(other)
    assert sums.mean() == 1


def test_a_state_without_mistakes_is_merged() -> None:
    one, other = WorstMistakes(), WorstMistakes()
    one.merge(other.state_dict())
    assert one.kept == ()
