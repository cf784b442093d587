"""Measurements as sections of a model's card. Pure."""

from typing import Any

from dpiqa.evaluation.comparison import Comparison
from dpiqa.evaluation.protocol import Measured
from dpiqa.evaluation.routing_trial import Trial
from dpiqa.evaluation.sweep import Sweep

Sections = dict[str, dict[str, Any]]  #: by name


def of_measured(one: Measured) -> Sections:
    """Return figures on one data set: pooled, by subset, with intervals, and the line from scores to MOS."""
    found = one.as_dict()
    return {f"{one.dataset} {one.split}": {"scorer": one.evaluation.scorer_id, **found}}


def of_sweep(sweep: Sweep) -> Sections:
    """Return for which kinds of distortion the score falls with strength, and where it does not."""
    means = {kind: [round(float(value), 4) for value in mean] for kind, mean in sweep.means.items()}
    courses = sweep.courses
    return {
        "distortions": {
            "scorer": sweep.scorer_id,
            "pictures": len(sweep.scores),
            "failures": len(sweep.failures),
            "tolerance": sweep.tolerance,
            "kinds": len(sweep.kinds),
            "falling": [kind for kind, course in courses.items() if course.falls],
            "rising_at_strengths": {kind: list(course.rises) for kind, course in courses.items() if course.rises},
            "flat": [kind for kind, course in courses.items() if not course.falls and not course.rises],
            "means_by_strength": means,
        }
    }


def of_trial(trial: Trial, data: str) -> Sections:
    """Return what routing does on `data` (name and split), and how teacher and student disagree."""
    return {f"routing on {data}, profile {trial.profile.id}": trial.as_dict()}


def of_comparison(comparison: Comparison, data: str, *, seeds: bool) -> Sections:
    """Return the spread of runs with other seeds as one section, or a section for every model compared with the first.

    The card is that of the first; differences are the other model minus this one, paired.
    """
    joint, parts = comparison.joint, comparison.parts
    if seeds:
        runs = {"runs": dict(zip(joint.names, joint.scorers, strict=True)), "failures": len(joint.failures)}
        return {f"seeds on {data}": runs | {"parts": {name: part.as_dict() for name, part in parts.items()}}}
    return {
        f"against {other} on {data}": {
            "failures": len(joint.failures),
            "differences_of_other": {
                name: {"n": part.n} | {metric: one.as_dict() for metric, one in part.differences[other].items()}
                for name, part in parts.items()
            },
            "other_against_this": disagreement.as_dict(),
        }
        for other, disagreement in comparison.disagreements.items()
    }
