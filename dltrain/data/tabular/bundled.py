"""Tables that come with scikit-learn: real data without a download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dltrain.data.tabular.table import Column, Request, Table, check_names

TARGET = "target"


class Bundled:
    """`name` of scikit-learn's tables; what is to be predicted is the column "target", of classes by their names.

    diabetes: 442 patients, ten measurements, a disease's progress in a year (Efron et al. 2004). wine: 178 wines of three
    growers, 13 measurements. breast_cancer: 569 tumours, 30 measurements, malignant or benign (Street et al. 1993).
    """

    def __init__(self, name: Literal["diabetes", "wine", "breast_cancer"]) -> None:
        self.name = name

    def read(self, request: Request) -> Table:
        from sklearn import datasets

        raw = {"scaled": False} if self.name == "diabetes" else {}
        bunch = getattr(datasets, f"load_{self.name}")(**raw)
        columns = [
            Column(str(n), bunch.data[:, i].astype(np.float64))
            for i, n in enumerate(bunch.feature_names)
        ]
        if "target_names" in bunch:
            columns.append(
                Column(TARGET, bunch.target.astype(np.int64), tuple(map(str, bunch.target_names)))
            )
        else:
            columns.append(Column(TARGET, bunch.target.astype(np.float64)))
        check_names(request.named, [c.name for c in columns], self.name)
        kept = {
            c.name: c.as_category() if c.name in request.categories else c
            for c in columns
            if c.name not in request.ignore and (request.only is None or c.name in request.only)
        }
        return Table(
            self.name, kept, lambda row: f"{self.name}: row {row + 1}", f"scikit-learn {self.name}"
        )
