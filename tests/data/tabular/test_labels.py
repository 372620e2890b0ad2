"""Targets of tables with many classes: how many may be, and messages for nearly as many as rows."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dltrain.data.tabular.tabular import Tabular
from dltrain.data.text.text import Text
from dltrain.data.text.text_files import LabeledTextFiles
from dltrain.errors import InputError
from dltrain.runs.continuation import require_same_classes


def table(labels: list[str], **settings: Any) -> Tabular:
    path = Path("table.csv")
    path.write_text("x,y\n" + "".join(f"{i % 7}.5,{label}\n" for i, label in enumerate(labels)))
    return Tabular(str(path), target="y", **settings)


def test_more_than_a_thousand_classes_need_a_setting() -> None:
    labels = [f"c{i % 1200}" for i in range(3600)]
    with pytest.raises(
        InputError, match=r"has 1,200 different values: .* only with dataset.kind=classification"
    ):
        _ = table(labels).spec
    data = table(labels, kind="classification")
    assert data.spec.num_classes == 1200
    assert data.train.samples + data.val.samples + data.test.samples == 3600


@pytest.mark.parametrize(("rows_per_class", "warned"), [(1.5, True), (2.5, False)])
def test_nearly_as_many_classes_as_rows_are_logged(
    rows_per_class: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dltrain")
    labels = [f"c{int(i / rows_per_class)}" for i in range(300)]
    classes = len(set(labels))
    _ = table(labels, kind="classification").spec
    said = (
        f"the target 'y' has {classes:,} classes in 300 rows: most can hardly be learned or tested"
    )
    assert any(said in record.getMessage() for record in caplog.records) == warned
    if warned:
        with pytest.raises(
            InputError,
            match=r"200 different labels in 300 rows, .* dataset.kind=classification insists",
        ):
            _ = table(labels).spec


def test_a_message_on_unknown_classes_names_a_few_of_many() -> None:
    """It named them all, in megabytes where there are 20,000."""

    def texts(name: str, first: int) -> Text:
        Path(name).write_text(
            "text,label\n" + "".join(f"word {k},c{first + k % 300}\n" for k in range(900))
        )
        return Text(Path(), LabeledTextFiles(Path(), name))

    other = texts("other.csv", first=200)
    other.restore(texts("trained.csv", first=0).description())
    with pytest.raises(
        InputError, match=r"the run knows no class c300, .* more; its classes are c0, .* more"
    ) as raised:
        _ = other.test
    assert len(str(raised.value)) < 300


def test_a_resume_with_other_classes_shows_where_they_differ() -> None:
    known = [f"c{k}" for k in range(1000)]
    here = [*known[:700], known[701], known[700], *known[702:]]
    data: Any = SimpleNamespace(spec=SimpleNamespace(class_names=tuple(here)))
    run: Any = SimpleNamespace(description=lambda: {"class_names": known})
    with pytest.raises(
        InputError,
        match=r"c701, c700, c702, .* more, and the run c700, c701, .* from class number 700 on",
    ):
        require_same_classes(data, run)
    with pytest.raises(
        InputError, match=r"the run knows no class x0, .*x49 and 250 more; its classes are c0"
    ):
        require_same_classes(
            SimpleNamespace(spec=SimpleNamespace(class_names=tuple(f"x{k}" for k in range(300)))),
            run,
        )
