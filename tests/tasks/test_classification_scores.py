"""Scores of many classes: exact figures, bounded memory, tables of the worst classes."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dltrain import losses, metrics
from dltrain.losses import CrossEntropy, evaluation_sum, row_blocks
from dltrain.tasks import classification_scores, roc_scores, score_states
from dltrain.tasks.classification_scores import (
    OTHER_CLASSES,
    ClassificationScores,
    Ranking,
    Scores,
    confusion_table,
    per_class_table,
    roc_plot,
)

MANY = (
    *(
        "dataset=synthetic",
        "dataset.source.channels=1",
        "dataset.source.height=4",
        "dataset.source.width=4",
    ),
    *("dataset.source.train_samples=300", "dataset.source.test_samples=200", "model=perceptron"),
    *("trainer.epochs=1", "callbacks.progress=null"),
)


def gathered(logits: Tensor, targets: Tensor, batch: int = 64) -> ClassificationScores:
    scores = ClassificationScores(logits.shape[1])
    for part in zip(logits.split(batch), targets.split(batch), strict=True):
        scores.update(*part)
    return scores


def samples(count: int, classes: int, levels: int | None = None) -> tuple[Tensor, Tensor]:
    """Return logits that are mostly correct; with `levels`, logits with few different values."""
    generator = torch.Generator().manual_seed(count)
    targets = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), targets] += 1
    return logits if levels is None else (logits * levels).round() / levels, targets


def both_ways(
    monkeypatch: pytest.MonkeyPatch, logits: Tensor, targets: Tensor
) -> tuple[Scores, Scores]:
    """Return the scores computed as for few classes, and as for many."""
    dense = gathered(logits, targets).compute()
    monkeypatch.setattr(roc_scores, "MAX_CURVE_CLASSES", 2)
    monkeypatch.setattr(score_states, "MAX_TABLE_CLASSES", 2)
    monkeypatch.setattr(score_states, "PENDING_PAIRS", 100)
    return dense, gathered(logits, targets).compute()


@pytest.mark.parametrize(
    ("count", "classes", "levels"),
    [(300, 40, None), (400, 7, 1), (500, 11, 0.1), (50, 200, None), (1, 9, None)],
)
def test_scores_of_many_classes_match_those_of_few(
    count: int, classes: int, levels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many or all probabilities are equal, and for classes without samples."""
    dense, streamed = both_ways(monkeypatch, *samples(count, classes, levels))
    assert streamed.figures.keys() == dense.figures.keys()
    assert streamed.figures.get("auroc") == pytest.approx(dense.figures.get("auroc"), abs=1e-6)
    exact = dense.figures.keys() - {"auroc"}
    assert {name: streamed.figures[name] for name in exact} == {
        name: dense.figures[name] for name in exact
    }
    torch.testing.assert_close(
        streamed.per_class, dense.per_class, equal_nan=True, atol=1e-6, rtol=0
    )
    assert torch.equal(streamed.confusion, dense.confusion)
    assert streamed.note == ""
    assert streamed.curve_classes.tolist() == dense.curve_classes.tolist()
    torch.testing.assert_close(streamed.curves, dense.curves)


def test_scores_of_few_classes_are_bit_identical_to_those_of_all_logits() -> None:
    logits, targets = samples(200, 30)
    expected = metrics.classification(logits, targets)
    found = gathered(logits, targets).compute()
    names = found.figures.keys() - {"ece", "brier", "nll"}
    assert all(found.figures[name] == float(expected[name]) for name in names)
    assert torch.equal(found.per_class, expected["per_class"])


def test_an_auc_from_some_of_the_samples_is_near_and_has_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every class keeps an AUC; the counts stay exact; the kept probabilities have a limit."""
    logits, targets = samples(3000, 40)
    exact = gathered(logits, targets).compute()
    monkeypatch.setattr(roc_scores, "MAX_KEPT_VALUES", 40 * 800)
    scores = gathered(logits, targets)
    assert scores.roc.rows.num_kept == 750, "one of each four"
    assert sum(part.numel() for part in scores.roc.rows.parts(0)) == 750 * 40
    found = scores.compute()
    assert found.note == (
        "auroc compares the samples of each class with 750 of all 3,000 samples, chosen at "
        "random: the probabilities of all are too many to keep"
    )
    assert found.figures["auroc"] == pytest.approx(exact.figures["auroc"], abs=5e-3)
    errors = (found.per_class[:, 3] - exact.per_class[:, 3]).abs()
    assert 1e-4 < float(errors.max()) < 0.05
    for name in ("accuracy", "precision", "recall", "f1", "top5"):
        assert found.figures[name] == exact.figures[name]
    assert torch.equal(found.confusion, exact.confusion)
    for batch in (1, 700, 3000):
        assert gathered(logits, targets, batch).compute().figures == found.figures
    monkeypatch.setattr(roc_scores, "MAX_TRUE_SCORES", 1000)
    fewer = gathered(logits, targets)
    assert fewer.roc.true_scores.num_kept == 750
    assert fewer.compute().figures["auroc"] == pytest.approx(exact.figures["auroc"], abs=0.02)


@pytest.mark.parametrize("max_rows", [2, 7, 64])
@pytest.mark.parametrize("chunk_bytes", [8, 40, 4000])
def test_the_sample_of_a_stream_is_bounded_and_spread_over_it(
    max_rows: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of any sizes give the same rows, one of each block of the stream."""
    monkeypatch.setattr(score_states, "CHUNK_BYTES", chunk_bytes)  # 1, 5 or all rows
    kept = score_states.SampledRows(max_rows)
    generator = torch.Generator().manual_seed(0)
    total = 0
    while total < 1000:
        size = min(int(torch.randint(1, 90, (1,), generator=generator)), 1000 - total)
        kept.keep(torch.arange(total, total + size))
        total += size
        assert 1 <= kept.num_kept <= max_rows
    rows = kept.column(0)
    whole = score_states.SampledRows(max_rows)
    whole.keep(torch.arange(1000))
    assert rows.tolist() == whole.column(0).tolist()
    assert (rows >> kept.level).tolist() == list(range(len(rows)))
    assert kept.level == 0 or kept.num_kept > max_rows // 2 - 1


def test_the_sample_does_not_follow_a_pattern_of_the_data() -> None:
    """Were every eighth row kept, all samples of alternating classes would be of one class."""
    rows = score_states.chosen_rows(0, 80_000, 3)
    assert len(rows) == 10_000
    counts = torch.bincount(rows % 8, minlength=8)
    assert (counts.min() > 1100, counts.max() < 1400) == (True, True), counts


def test_states_do_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roc_scores, "MAX_KEPT_ROWS", 256)
    monkeypatch.setattr(roc_scores, "MAX_TRUE_SCORES", 256)
    monkeypatch.setattr(score_states, "MAX_TABLE_CLASSES", 2)
    monkeypatch.setattr(score_states, "MAX_PAIRS", 200)
    monkeypatch.setattr(score_states, "PENDING_PAIRS", 128)
    scores = ClassificationScores(50)
    limit = classification_scores.state_bytes(256, 50, keep_logits=False)
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(16, 50, generator=generator)
        scores.update(logits, torch.randint(0, 50, (16,), generator=generator))
        assert scores.bytes() <= limit
    found = scores.compute()
    assert len(found.confusion) <= 200
    lost = 300 * 16 - int(found.confusion[:, 2].sum())
    assert lost > 0
    assert f"leaves out {lost:,} samples of rare pairs" in found.note
    assert int(found.per_class[:, 4].sum()) == 300 * 16


@pytest.mark.parametrize(("count", "classes"), [(500, 10), (900, 30), (600, 1200), (700, 40)])
@pytest.mark.parametrize("keep_logits", [False, True])
def test_the_stated_memory_is_that_of_the_states(
    count: int, classes: int, keep_logits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stated bytes are at most a tenth more: not all pairs of classes occur."""
    monkeypatch.setattr(roc_scores, "MAX_KEPT_VALUES", 200_000)
    monkeypatch.setattr(roc_scores, "MAX_KEPT_ROWS", 512)
    monkeypatch.setattr(score_states, "PENDING_PAIRS", 256)
    scores = ClassificationScores(classes, keep_logits=keep_logits)
    logits, targets = samples(count, classes)
    for part in zip(logits.split(64), targets.split(64), strict=True):
        scores.update(*part)
    stated = classification_scores.state_bytes(count, classes, keep_logits)
    scores.counts.pairs()
    assert 0.9 * stated < scores.bytes() <= stated


def test_check_prints_the_memory_of_an_evaluation(dltrain) -> None:
    outcome = dltrain("check", *MANY, "dataset.source.num_classes=2000", "--json")
    assert outcome.code == 0, outcome.err
    stated = classification_scores.state_bytes(200, 2000, keep_logits=False)
    assert outcome.json["evaluation_state_bytes"] == stated
    assert (
        outcome.json["evaluation_output_bytes"] == 4 * 2000 * outcome.json["evaluation_batch_size"]
    )
    lines = dltrain("check", *MANY, "dataset.source.num_classes=2000").out.splitlines()
    line = next(line for line in lines if "states of an evaluation" in line)
    assert "3.8 MB for 200 samples, and " in line


def test_a_batch_is_added_without_reading_its_values() -> None:
    """On torch's meta device a tensor has no values."""
    for classes in (10, 2000):
        scores = ClassificationScores(classes)
        for _ in range(3):
            logits = torch.randn(8, classes, device="meta")
            scores.update(logits, torch.zeros(8, dtype=torch.int64, device="meta"))
        assert scores.roc.rows.total_rows == 24


def test_a_large_batch_is_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = samples(300, 40)
    loss = CrossEntropy(label_smoothing=0.1)
    whole = evaluation_sum(loss, logits, targets)
    exact = gathered(logits, targets, 300).compute()
    monkeypatch.setattr(losses, "MAX_BLOCK_VALUES", 400)
    assert [len(part) for part, _ in row_blocks(logits[:25], targets[:25])] == [10, 10, 5]
    torch.testing.assert_close(evaluation_sum(loss, logits, targets), whole)
    parts = gathered(logits, targets, 300)
    assert parts.roc.rows.total_rows == 300
    assert parts.compute().figures == exact.figures


def test_custom_metrics_get_all_logits_of_many_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, targets = samples(300, 40)
    monkeypatch.setattr(roc_scores, "MAX_KEPT_VALUES", 4000)
    scores = ClassificationScores(40, keep_logits=True)
    for part in zip(logits.split(64), targets.split(64), strict=True):
        scores.update(*part)
    assert scores.compute().note.endswith("metrics of your own get all logits, 0.0 GB of them")
    for _ in range(2):
        assert all(
            torch.equal(a, b) for a, b in zip(scores.all_logits(), (logits, targets), strict=True)
        )


def test_the_area_of_the_mean_curve_is_that_of_its_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roc_scores, "MAX_CURVE_CLASSES", 2)
    monkeypatch.setattr(classification_scores, "MAX_AVERAGED_CURVES", 5)
    found = gathered(*samples(300, 40)).compute()
    assert found.mean_classes == 5
    area = float(torch.trapezoid(found.mean_curve, metrics.false_positive_rates()))
    assert found.mean_auc == pytest.approx(area, abs=5e-3)
    assert found.mean_auc != pytest.approx(found.figures["auroc"], abs=5e-3)
    assert (
        f"mean of 5 of 40 classes (AUC {found.mean_auc:.3f})"
        in roc_plot(found, tuple(map(str, range(40)))).lines
    )


def test_tables_of_many_classes_show_the_worst() -> None:
    """200 classes of two samples; 7 is always predicted as 9, and one sample of 150 as 151."""
    targets = torch.arange(200).repeat(2)
    answers = targets.clone()
    answers[[7, 207]] = 9
    answers[150] = 151
    names = tuple(f"c{k}" for k in range(200))
    found = gathered(torch.nn.functional.one_hot(answers, 200).float(), targets).compute()
    confusion = confusion_table(found.confusion, names)
    assert confusion.rows == confusion.columns
    assert confusion.rows[:4] == ("c7", "c9", "c150", "c151")
    assert confusion.rows[-1] == OTHER_CLASSES
    assert (
        confusion.note
        == "the 20 of 200 classes with the most mistakes; the others together, right and wrong"
    )
    assert confusion.values[:4, :4].tolist() == [
        [0, 2, 0, 0],
        [0, 2, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 0, 2],
    ]
    assert int(confusion.values[-1, -1]) == 180 * 2
    assert int(confusion.values.sum()) == 400
    whole = per_class_table(found.per_class, names)
    part = whole.shown()
    assert len(whole.rows) == 200
    assert part.rows[:4] == ("c7", "c9", "c150", "c151")
    assert part.note == "the 20 worst of 200 classes (lowest f1, most support)"
    assert part.values[0].tolist()[:3] == [0.0, 0.0, 0.0]
    few = confusion_table(torch.tensor([[0, 1, 5]]), ("a", "b"))
    assert (few.values.tolist(), few.note) == ([[0, 5], [0, 0]], "")


def test_a_ranking_gives_the_likeliest_classes_first() -> None:
    ranking = Ranking(("a", "b", "c"), torch.tensor([2, 0, 1]), torch.tensor([0.5, 0.25, 0.25]))
    assert len(ranking) == 3
    assert ranking[0] == {"class": "c", "probability": 0.5}
    assert ranking[:2] == [{"class": "c", "probability": 0.5}, {"class": "a", "probability": 0.25}]


def test_a_run_of_20000_classes_needs_little_memory(dltrain) -> None:
    """It used to need more than 16 GB; a confusion matrix of all classes alone has 3.2 GB."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = dltrain(*MANY, "dataset.source.num_classes=20000", "--json")
    assert outcome.code == 0, outcome.err
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1_000_000, f"{grown} KB more"
    assert {f"test/{name}" for name in ("accuracy", "f1", "auroc", "top5")} <= outcome.json[
        "metrics"
    ].keys()
    folder = Path(outcome.json["run"])
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    for tag in ("test/confusion", "test/per_class", "test/roc"):
        picture = events.Images(tag)[0]
        assert max(picture.width, picture.height) < 2000, tag


def test_evaluate_prints_the_worst_of_many_classes_and_writes_all(dltrain) -> None:
    assert dltrain(*MANY, "dataset.source.num_classes=150", "callbacks=quiet").code == 0
    outcome = dltrain("evaluate", "last", "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.json["per_class"]) == 150
    lines = [line for line in outcome.out.splitlines() if line.startswith("  class ")]
    assert len(lines) == 21
    assert "  the 20 worst of 150 classes (lowest f1, most support); --json has all" in outcome.out
    predicted = dltrain("predict", "last", "split=test", "top=2", "--out", "rows.jsonl")
    assert predicted.code == 0, predicted.err
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert {len(row["top"]) for row in rows} == {2}, "not all 150"
    assert all(row["class"] == row["top"][0]["class"] for row in rows)
    f1 = [row["f1"] for row in outcome.json["per_class"].values()]
    assert all(
        outcome.json["per_class"][" ".join(line.split()[:2])]["f1"] == min(f1)
        for line in lines[1:3]
    )
