"""Sentences that say whether groups of runs differ by more than the noise of their seeds."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.report.text import counted_noun, number
from dltrain.runs.comparison.groups import RunGroup
from dltrain.statistics import MeanDifference, difference, holm

SIGNIFICANCE = 0.05  # a smaller p value is beyond the noise
MODES = ("max", "min")
MAX_SENTENCES = 12  # of one comparison; the other groups are counted
MORE_SEEDS = 'add "seed=range(0,5)"'


class Contrast:
    """The best group beside another one: their difference, and its p value among all of them."""

    def __init__(self, best: RunGroup, other: RunGroup, test: MeanDifference) -> None:
        self.best = best
        self.other = other
        self.test = test
        self.corrected = test.p

    @property
    def is_noise(self) -> bool:
        """True if the difference may be chance, as far as is known."""
        return self.corrected is None or self.corrected >= SIGNIFICANCE


def comparison(groups: Sequence[RunGroup], metric: str, mode: str) -> list[str]:
    """Return sentences about the best group beside each other one, in a metric.

    The best is the one with the best mean among those with several runs. As it is chosen after the
    fact, the p values are corrected for all pairs of groups, not only for the pairs that are
    tested: among 20 equal groups the best would otherwise seem better than another one in 14 % of
    all sweeps.

    Args:
        groups: The groups; those without the metric are left out.
        metric: The name of the metric, such as `test/accuracy`.
        mode: "max" or "min": which values are better; another text if that is unknown.
    """
    measured = sorted_groups(groups, metric, mode)
    if len(measured) < 2:
        return []
    if mode not in MODES:
        return [f"the runs do not say whether {metric} is better high or low, so no group is best"]
    repeated = repeated_groups(measured, metric)
    if not repeated:
        return [nothing_repeated(measured)]
    contrasts = contrasts_with(repeated[0], measured, metric)
    correct(contrasts, len(repeated))
    return [
        *sentences(contrasts[:MAX_SENTENCES], metric, mode),
        *rest_of(contrasts[MAX_SENTENCES:]),
        *notes(measured, contrasts, len(repeated)),
    ]


def sentences(contrasts: Sequence[Contrast], metric: str, mode: str) -> list[str]:
    """Return a sentence for each contrast."""
    return [sentence(contrast, metric, mode) for contrast in contrasts]


def repeated_groups(groups: Sequence[RunGroup], metric: str) -> list[RunGroup]:
    """Return the groups of which at least two runs have a metric."""
    return [group for group in groups if group.summary(metric).n > 1]


def sorted_groups(groups: Sequence[RunGroup], metric: str, mode: str) -> list[RunGroup]:
    """Return the groups that have a metric, from the best mean to the worst."""
    means = [(group.summary(metric).mean, group) for group in groups]
    known = [(mean, group) for mean, group in means if mean is not None]
    known.sort(key=lambda pair: pair[0], reverse=mode == "max")
    return [group for _, group in known]


def contrasts_with(best: RunGroup, groups: Sequence[RunGroup], metric: str) -> list[Contrast]:
    """Return the difference of the best group from each other one."""
    contrasts = []
    for other in groups:
        overlap = max(best.overlap, other.overlap)
        test = difference(best.scores[metric], other.scores[metric], overlap)
        if test is not None and other is not best:
            contrasts.append(Contrast(best, other, test))
    return contrasts


def correct(contrasts: Sequence[Contrast], count: int) -> None:
    """Correct the p values for all pairs of so many groups."""
    tested = [contrast for contrast in contrasts if contrast.test.p is not None]
    p_values = [contrast.test.p or 0.0 for contrast in tested]
    for contrast, p in zip(tested, holm(p_values, pairs_of(count)), strict=True):
        contrast.corrected = p


def pairs_of(count: int) -> int:
    """Return the number of pairs of so many groups."""
    return count * (count - 1) // 2


def nothing_repeated(groups: Sequence[RunGroup]) -> str:
    """Return a sentence that says that every group has one run."""
    unit = groups[0].unit
    return with_hint(f"one {unit} each: no noise is known", unit)


def with_hint(text: str, unit: str) -> str:
    """Return a sentence with what to type for more values, if these are seeds."""
    return f"{text}; {MORE_SEEDS}" if unit == "seed" else text


def sentence(contrast: Contrast, metric: str, mode: str) -> str:
    """Return what can be said of the difference of two groups."""
    test = contrast.test
    if test.p is None:
        return untested(contrast, metric)
    if test.half_width == 0:
        return f"{both(contrast)}: no difference in {metric} ({counts(contrast)})"
    amount = f"{number(abs(test.value))} ± {number(test.half_width)}"
    if contrast.is_noise:
        noise = noise_of(test.p)
        return (
            f"{both(contrast)}: the difference {amount} in {metric} is {noise} ({facts(contrast)})"
        )
    better, worse = contrast.best.label, contrast.other.label
    if (test.value > 0) != (mode == "max"):  # in the pairs, other than in the means
        better, worse = worse, better
    return f"{better} is better than {worse} by {amount} {metric} ({facts(contrast)})"


def noise_of(p: float) -> str:
    """Return the words for a difference that may be chance, given its p value alone."""
    if p >= SIGNIFICANCE:
        return "within the noise"
    return "within the noise of so many comparisons"


def untested(contrast: Contrast, metric: str) -> str:
    """Return why nothing is known of the noise of a difference."""
    unit = contrast.best.unit
    reason = f"no {unit} changes it ({counts(contrast)})"
    if min(contrast.test.n) < 2:
        reason = f"{contrast.other.label} has one {unit}"
    amount = f"the difference {number(abs(contrast.test.value))} in {metric}"
    return with_hint(f"{both(contrast)}: {amount} cannot be tested, {reason}", unit)


def both(contrast: Contrast) -> str:
    """Return the labels of both groups."""
    return f"{contrast.best.label} and {contrast.other.label}"


def counts(contrast: Contrast) -> str:
    """Return how many runs were compared, and if they were compared in pairs."""
    first, second = contrast.test.n
    unit = contrast.best.unit
    if contrast.test.is_paired:
        return counted_noun(first, f"paired {unit}")
    if first == second:
        return f"{counted_noun(first, unit)} each"
    return f"{first} and {counted_noun(second, unit)}"


def facts(contrast: Contrast) -> str:
    """Return the number of runs and the p value, with the corrected one if it is another."""
    text = f"{counts(contrast)}, {p_text('p', contrast.test.p)}"
    if contrast.corrected == contrast.test.p:
        return text
    return f"{text}, {p_text('corrected p', contrast.corrected)}"


def p_text(name: str, p: float | None) -> str:
    """Return a p value with its name: p = 0.03, p < 0.001."""
    if p is None:
        return f"{name} unknown"
    if p < 0.001:
        return f"{name} < 0.001"
    return f"{name} = {p:.2g}"


def rest_of(contrasts: Sequence[Contrast]) -> list[str]:
    """Return a sentence that counts the groups without a sentence of their own."""
    if not contrasts:
        return []
    noise = sum(contrast.is_noise for contrast in contrasts)
    return [
        f"{counted_noun(len(contrasts), 'more group')}: {len(contrasts) - noise} worse than "
        f"{contrasts[0].best.label} beyond the noise, {noise} within it or not tested"
    ]


def notes(groups: Sequence[RunGroup], contrasts: Sequence[Contrast], repeated: int) -> list[str]:
    """Return what the figures of the sentences mean, and which runs do not count."""
    lines = []
    if any(contrast.test.half_width for contrast in contrasts):
        lines.append(legend(repeated))
    incomplete = [group for group in groups if group.n < group.started]
    if incomplete:
        lines.append(f"only finished runs count: {', '.join(map(count_of, incomplete))}")
    return lines


def legend(repeated: int) -> str:
    """Return what ± and p mean; the correction if there are several pairs of groups."""
    text = "± is the 95 % interval of the difference"
    if repeated < 3:
        return text
    return f"{text}; p is corrected for {pairs_of(repeated):,} pairs of groups (Holm)"


def count_of(group: RunGroup) -> str:
    """Return how many of a group's runs finished: 3 of 5 seeds of model=cnn."""
    return f"{group.n} of {counted_noun(group.started, group.unit)} of {group.label}"
