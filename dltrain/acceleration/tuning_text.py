"""The line that says what device=fast has chosen, what it gains, and what was not tried."""

from __future__ import annotations

from dltrain.acceleration.candidates import Candidate
from dltrain.acceleration.tuning import (
    COMPILE_SECONDS,
    COMPILE_WORTH,
    TIE,
    Measured,
    Measurements,
    percent,
)

INACCURATE = "losses differ"  # begins the problem of a candidate that trains otherwise


def choice_line(chosen: Measured, measurements: Measurements, is_cached: bool) -> str:
    """Return the line about the chosen settings."""
    reference = measurements.reference
    parts = [f"device=fast: {description(chosen.candidate, reference.candidate)}"]
    if chosen.candidate == reference.candidate:
        parts[0] += f", as device=auto: nothing measured is {100 * (1 - TIE):.0f} % faster"
    else:
        gain = reference.ms / chosen.ms
        parts[0] += f": {gain:.2f} x device=auto ({chosen.ms:.3g} ms a step)"
        limit = percent(max(chosen.candidate.tolerance, reference.candidate.tolerance))
        parts.append(f"losses differ by {percent(chosen.difference)} (tolerance {limit})")
    parts += inaccurate(measurements)
    if not measurements.compile_tried:
        shortest = COMPILE_WORTH * COMPILE_SECONDS / 60
        parts.append(f"compilation is tried only for trainings above {shortest:.0f} min")
    if is_cached:
        parts.append("measured by an earlier run")
    return "; ".join(parts)


def description(candidate: Candidate, reference: Candidate) -> str:
    """Return the settings as text, with the precision that they replace."""
    text = str(candidate)
    if candidate.precision == reference.precision:
        return text
    changed = f"{candidate.precision} instead of {reference.precision}"
    return text.replace(candidate.precision, changed, 1)


def inaccurate(measurements: Measurements) -> list[str]:
    """Return a part for each precision that was left out because its losses differ."""
    problems = {
        one.candidate.precision: one.problem
        for one in measurements.others
        if one.problem.startswith(INACCURATE)
    }
    return [f"not {precision}: {problem}" for precision, problem in problems.items()]
