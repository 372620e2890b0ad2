"""The importance of the swept keys: the share of each in the differences between trials (fANOVA).

F. Hutter, H. Hoos, K. Leyton-Brown: An Efficient Approach for Assessing Hyperparameter Importance,
ICML 2014, as Optuna computes it: a random forest predicts the metric from the values, and its
variance is split among the keys.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.report.text import table
from dltrain.runs.comparison.groups import OVER
from dltrain.sweeps.names import values_by_key
from dltrain.sweeps.summary.ranking import Criterion, finished
from dltrain.sweeps.trial import Row

MIN_TRIALS = 4
LOG_RATIO = 100.0  # between the highest and the lowest value from which a key is split by its log
SEED = 0
MISSING = 'parameter importance needs optuna and scikit-learn: pip install "dltrain-cli[sweep]"'
Distribution = Any  # of Optuna


@dataclass(frozen=True)
class Importance:
    """The shares of swept keys in the differences between trials, which add up to 1.

    Attributes:
        metric: The metric that differs.
        trials: How many finished trials were looked at.
        shares: The share of each key, the most important first; {} if none can be computed.
        note: Why there are no shares, or which keys have none.
    """

    metric: str
    trials: int
    shares: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def lines(self) -> list[str]:
        """Return a table of the shares, and the note."""
        lines = []
        if self.shares:
            lines.append(f"parameter importance for {self.metric} (fANOVA, {self.trials} trials)")
            cells = [[key, f"{100 * share:.1f} %"] for key, share in self.shares.items()]
            lines.append(table(cells, right=frozenset([1])))
        if self.note:
            lines.append(self.note)
        return lines


def importance_of(
    rows: Sequence[Row], swept: Sequence[str], criteria: Sequence[Criterion]
) -> Importance | None:
    """Return the importance of the swept keys for the first criterion.

    Seeds and folds do not count: they are noise. Return None where the question makes no sense: for
    fewer than two keys, and without a metric.
    """
    keys = [key for key in swept if key not in OVER]
    if len(keys) < 2 or not criteria:
        return None
    criterion = criteria[0]
    done = [row for row in finished(rows) if criterion.value(row) is not None]
    varied = varied_columns(done, keys)
    costs = [criterion.cost(row) for row in done]
    note = problem_of(criterion.metric, varied, costs)
    if note:
        return Importance(criterion.metric, len(done), note=note)
    shares = computed_shares(varied, costs)
    if shares is None:
        return Importance(criterion.metric, len(done), note=MISSING)
    others = [key for key in keys if key not in varied]
    return Importance(criterion.metric, len(done), shares, note_on(others))


def varied_columns(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key that all trials set, and that differ between them."""
    settings = [values_by_key(row["overrides"]) for row in rows]
    columns = {}
    for key in keys:
        texts = [values[key] for values in settings if key in values]
        if len(texts) == len(settings) and len(set(texts)) > 1:
            columns[key] = texts
    return columns


def note_on(keys: Sequence[str]) -> str:
    """Return a line on keys that have no share; "" for none."""
    if not keys:
        return ""
    names = ", ".join(keys)
    return f"no importance of {names}: it has one value, or some finished trials have none"


def problem_of(metric: str, columns: Mapping[str, Sequence[str]], costs: Sequence[float]) -> str:
    """Return why shares cannot be computed; "" if they can."""
    why = ""
    if len(costs) < MIN_TRIALS:
        why = f"{MIN_TRIALS} finished trials are needed, there are {len(costs)}"
    elif len(columns) < 2:
        why = "fewer than two keys have different values in the finished trials"
    elif len(set(costs)) == 1:
        why = f"{metric} is the same in all of them"
    return f"no parameter importance: {why}" if why else ""


def computed_shares(
    columns: Mapping[str, Sequence[str]], costs: Sequence[float]
) -> dict[str, float] | None:
    """Return the share of each key, the highest first; None without the libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import optuna
            from optuna.importance import FanovaImportanceEvaluator, get_param_importances

            evaluator = FanovaImportanceEvaluator(seed=SEED)  # imports scikit-learn
        except ImportError:
            return None
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        try:
            shares = get_param_importances(study_of(columns, costs), evaluator=evaluator)
        finally:
            optuna.logging.set_verbosity(verbosity)
    return {key: float(share) for key, share in shares.items()}


def study_of(columns: Mapping[str, Sequence[str]], costs: Sequence[float]) -> Any:
    """Return an Optuna study of trials with the values of `columns` and with `costs`."""
    import optuna

    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    values = {key: axis(texts) for key, texts in columns.items()}
    distributions = {key: distribution_of(numbers) for key, numbers in values.items()}
    for i, cost in enumerate(costs):
        params = {key: numbers[i] for key, numbers in values.items()}
        study.add_trial(
            optuna.trial.create_trial(value=cost, params=params, distributions=distributions)
        )
    return study


def axis(texts: Sequence[str]) -> list[float] | list[str]:
    """Return the values of a key as positions on an axis, or as names that have no order.

    Numbers have an order, and positions by their logarithm if they differ much. The few values of a
    grid are names: between them nothing was tried.
    """
    numbers = [number_of(text) for text in texts]
    known = [number for number in numbers if number is not None]
    if len(known) < len(texts) or 2 * len(set(known)) <= len(known):
        return list(texts)
    if min(known) > 0 and max(known) / min(known) >= LOG_RATIO:
        return [math.log10(number) for number in known]
    return known


def number_of(text: str) -> float | None:
    """Return the finite number that an override's value is; None for another value."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def distribution_of(values: Sequence[float] | Sequence[str]) -> Distribution:
    """Return an Optuna distribution that has the values of a key."""
    import optuna

    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) == len(values):
        return optuna.distributions.FloatDistribution(min(numbers), max(numbers))
    return optuna.distributions.CategoricalDistribution(sorted(set(map(str, values))))
