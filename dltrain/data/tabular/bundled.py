"""Tables that ship with the package: real data without a download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dltrain.data.io.bundled_files import read_bundled_file
from dltrain.data.tabular.table import Column, Request, Table, check_names

TARGET = "target"
CLASS_NAMES = {
    "wine": ("class_0", "class_1", "class_2"),
    "breast_cancer": ("malignant", "benign"),
}


class Bundled:
    """One of the tables in dltrain/data/bundled_files; the column to predict is "target".

    diabetes: 442 patients, ten measurements, and the progression of the disease after one year
    (Efron et al. 2004). wine: 178 wines of three growers, 13 measurements. breast_cancer: 569
    tumors, 30 measurements, malignant or benign (Street et al. 1993). Values, order and names are
    those of scikit-learn.
    """

    def __init__(self, name: Literal["diabetes", "wine", "breast_cancer"]) -> None:
        self.name = name

    def read(self, request: Request) -> Table:
        """Read the requested columns; ConfigError for a name that the table does not have."""
        header, rows = read_bundled_file(self.name)
        check_names(request.named, header, self.name)
        columns = {}
        for name, texts in zip(header, zip(*rows, strict=True), strict=True):
            is_requested = request.only is None or name in request.only
            if name in request.ignore or not is_requested:
                continue
            column = self.column(name, texts)
            columns[name] = column
            if name in request.categories:
                columns[name] = column.as_category()
        digest = f"scikit-learn {self.name}"  # as the runs of earlier versions recorded it
        return Table(self.name, columns, self.where, digest)

    def where(self, row: int) -> str:
        """Return the place of a row for a message."""
        return f"{self.name}: row {row + 1}"

    def column(self, name: str, texts: tuple[str, ...]) -> Column:
        """Return a column of numbers, or of classes where it is the target of a classification."""
        class_names = CLASS_NAMES.get(self.name)
        if name == TARGET and class_names is not None:
            codes = [class_names.index(text) for text in texts]
            return Column(name, np.array(codes, dtype=np.int64), class_names)
        return Column(name, np.array(texts, dtype=np.float64))
