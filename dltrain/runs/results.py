"""The results of a run: its status, its figures, and the claims that an experiment makes."""

from __future__ import annotations

import json
import logging
import math
import operator
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dltrain.errors import DivergedError, DltrainError, Interrupted, PrunedError, UserCodeError
from dltrain.report.text import number
from dltrain.runs.folder import METRICS, RESULTS, RunFolder
from dltrain.user_code import user_errors_explained

log = logging.getLogger("dltrain")
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
SIGN = re.compile(r"\s*([<>=]*)")
CLAIM_TOLERANCE = 1e-7  # relative: 9960 of 10,000 is a little less than 0.996 in 32 bits
OVERFIT_LOSS_RATIO = 0.1  # of the last loss to the first, which debug=overfit has to reach
OVERFIT_ACCURACY = 0.99  # or this accuracy


@dataclass
class Ending:
    """The end of a run: its status, the reason if it did not complete, and the test's scores."""

    status: str = "failed"
    reason: str = ""
    trained: bool = False  # to the end; only the test may be missing
    scores: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note why the block raised, and raise that on."""
        try:
            with user_errors_explained():
                yield
        except Interrupted as e:
            self.status = "interrupted"
            self.reason = str(e)
            log.debug(self.reason)  # the error message says it on the screen
            raise
        except PrunedError as e:
            self.status = "pruned"
            self.reason = str(e)
            log.info(self.reason)
            raise
        except DivergedError as e:
            self.status = "diverged"
            self.reason = str(e)
            raise
        except UserCodeError as e:
            self.reason = str(e)
            log.debug(traceback.format_exc())
            raise
        except DltrainError as e:
            self.reason = str(e)
            raise
        except BaseException as e:
            self.reason = f"{type(e).__name__}: {e}"
            log.debug(traceback.format_exc())
            raise


def write_results(run: RunFolder, results: dict[str, Any]) -> None:
    """Write results.json; a full disk costs a warning."""
    try:
        run.write_json(RESULTS, results)
    except OSError as e:
        log.warning(f"{run.folder / RESULTS} cannot be written: {e.strerror}")


def claims(config: dict[str, Any], metrics: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return each `expect:` claim with the measured value and whether it is met."""
    if config["debug"]:
        return {}
    judged = {}
    for name, text in config["expect"].items():
        measured = metrics.get(name)
        met = measured is not None and is_met(text, measured)
        judged[name] = {"claim": text, "value": measured, "met": met}
    return judged


def is_met(claim: str, value: float) -> bool:
    """Tell if `value` meets a claim such as ">= 0.99"."""
    bound = float(claim.lstrip("<>= "))
    sign = SIGN.match(claim)
    compare = COMPARISONS.get(sign[1]) if sign else None
    if compare is None:
        return False
    if math.isclose(value, bound, rel_tol=CLAIM_TOLERANCE):
        value = bound
    return bool(compare(value, bound))


def require_overfit(run: RunFolder, results: dict[str, Any]) -> None:
    """Report whether `debug=overfit` memorized its one batch; raise DltrainError if not."""
    losses = training_losses(run)
    if not losses:
        raise DltrainError("overfit: FAIL  no step had a loss that is a finite number")
    first = losses[0]
    last = losses[-1]
    accuracy = results["metrics"].get("test/accuracy", 0.0)
    figures = f"loss {number(first)} -> {number(last)}, accuracy on the batch {number(accuracy)}"
    if last > OVERFIT_LOSS_RATIO * first and accuracy < OVERFIT_ACCURACY:
        raise DltrainError(
            f"overfit: FAIL  {figures}\n"
            "A network that cannot memorize one batch has a bug or too small a learning rate"
        )
    log.info(f"overfit: PASS  {figures}")


def training_losses(run: RunFolder) -> list[float]:
    """Return the losses that the run logged while it trained."""
    lines = (run.folder / METRICS).read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line).get("train/loss") for line in lines]
    return [loss for loss in logged if loss is not None]
