"""Criteria that could choose the images for a teacher, and a cascade of three models, on labelled images. Pure.

A criterion is a number for each image, and the images with the highest go to the teacher, a set share of all. Agreement
is that of `dpiqa.evaluation.paired`: the share of the images whose score lies on people's side of every cut-off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dpiqa.evaluation.intervals import DRAWS, Estimate, bootstrap
from dpiqa.evaluation.paired import same_side
from dpiqa.text import markdown_table

SHARES = (0.05, 0.1, 0.2, 0.4)  #: of the images that the teacher sees
BEST = "best possible"  #: chooses by people's opinions, which nobody has: what no criterion can exceed
#: What a gain is over: the student's scores alone, or as many images chosen at random.
OVER = ("student", "random")
_LEAST = 1e-6  #: distance of a score at the cut-off itself, in MOS/100


@dataclass(frozen=True, kw_only=True)
class EscalationScores:
    """Scores of the same images (N,), MOS/100, and what people say of them."""

    labels: np.ndarray  #: MOS, 0-1
    student: np.ndarray
    teacher: np.ndarray
    second: np.ndarray | None = None  #: of a second student, the first stage of the cascade
    spread: np.ndarray | None = None  #: deviation of the student's scores over views: see `dpiqa.evaluation.views`

    def only(self, rows: np.ndarray) -> "EscalationScores":
        """Return some of the images: `rows` is a mask (N,) bool or rows (M,) int."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[rows] for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class EscalationTrial:
    """Results of a trial: figures with 95 % intervals over images, differences paired."""

    n: int
    cutoffs: tuple[float, ...]
    shares: tuple[float, ...]
    alone: dict[str, Estimate]  #: agreement of each model for all images: `student`, `teacher`, `second`
    #: by criterion, then by `OVER`: what choosing by it gains, at each share
    gains: dict[str, dict[str, tuple[Estimate, ...]]]
    #: share of the images that the student sees after the second student; None: there is none
    cascade_share: float | None
    #: agreement of the cascade minus that of the student for all: without a teacher, then with it at each share
    cascade: tuple[Estimate, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything for a report."""
        shares = [f"{share:g}" for share in self.shares]
        gains = {
            name: {
                over: {share: gain.as_dict() for share, gain in zip(shares, estimates, strict=True)}
                for over, estimates in by_base.items()
            }
            for name, by_base in self.gains.items()
        }
        cascade = {
            share: gain.as_dict() for share, gain in zip(["0", *shares][: len(self.cascade)], self.cascade, strict=True)
        }
        return {
            "n": self.n,
            "cutoffs": list(self.cutoffs),
            "agreement": {name: estimate.as_dict() for name, estimate in self.alone.items()},
            "gains": gains,
            "cascade_student_share": self.cascade_share,
            "cascade_minus_student": cascade,
        }


def distance(scores: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """Scores (N,) -> distances to the nearest cut-off (N,), MOS/100."""
    distances: np.ndarray = np.abs(scores[:, None] - np.asarray(cutoffs, dtype=np.float64)[None, :]).min(axis=1)
    return distances


def criteria(scores: EscalationScores, cutoffs: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the criteria by name, (N,) each: an image with a higher one goes to the teacher first.

    Divided by the distance to the cut-off, an uncertainty says how likely the teacher is to be on its other side.
    """
    near = distance(scores.student, cutoffs)
    found = {"distance to the cut-off": -near}
    if scores.second is not None:
        apart = np.abs(scores.student - scores.second)
        found["disagreement of two students"] = apart
        found["disagreement by distance"] = apart / (near + _LEAST)
    if scores.spread is not None:
        found["spread over views"] = scores.spread
        found["spread by distance"] = scores.spread / (near + _LEAST)
    return found


def chosen(criterion: np.ndarray, share: float) -> np.ndarray:
    """Criterion (N,) -> (N,) bool: the share of the images, rounded down, with the highest; of equal ones the first."""
    mask = np.zeros(len(criterion), dtype=bool)
    mask[np.argsort(-criterion, kind="stable")[: math.floor(share * len(criterion) + 1e-9)]] = True
    return mask


def cascade(
    scores: EscalationScores, cutoffs: Sequence[float], student_share: float, teacher_share: float
) -> np.ndarray:
    """Return the scores (N,) of second student -> student -> teacher, each stage by the distance to the cut-off.

    `student_share` and `teacher_share` are of all images; the teacher sees only images that the student sees.
    """
    assert scores.second is not None  # noqa: S101 - the caller's
    seen = chosen(-distance(scores.second, cutoffs), student_share)
    final = np.where(seen, scores.student, scores.second)
    urgency = np.where(seen, -distance(scores.student, cutoffs), -np.inf)
    return np.where(chosen(urgency, teacher_share) & seen, scores.teacher, final)


def try_escalation(
    scores: EscalationScores,
    cutoffs: Sequence[float],
    *,
    shares: Sequence[float] = SHARES,
    cascade_share: float = 0.5,
    draws: int = DRAWS,
    seed: int = 0,
) -> EscalationTrial:
    """Choose by each criterion at each share, and run the cascade where there is a second student.

    Agreement by random choice is its expected value: with a share p, (1 - p) times the student's plus p times the
    teacher's. `cascade_share` must be at least the largest share.
    """
    values = _figures(scores, cutoffs, shares, cascade_share)
    found = bootstrap(
        lambda rows: _figures(scores.only(rows), cutoffs, shares, cascade_share),
        len(scores.labels),
        draws=draws,
        seed=seed,
    )
    estimates = {name: Estimate(value, found.get(name)) for name, value in values.items()}
    names = [*criteria(scores, cutoffs), BEST]
    return EscalationTrial(
        n=len(scores.labels),
        cutoffs=tuple(cutoffs),
        shares=tuple(shares),
        alone={name: estimates[name] for name in ("student", "teacher", "second") if name in estimates},
        gains={
            name: {over: tuple(estimates[f"{name}|{over}|{share:g}"] for share in shares) for over in OVER}
            for name in names
        },
        cascade_share=None if scores.second is None else cascade_share,
        cascade=tuple(estimates[f"cascade|{share:g}"] for share in (0, *shares) if f"cascade|{share:g}" in estimates),
    )


def _figures(
    scores: EscalationScores, cutoffs: Sequence[float], shares: Sequence[float], cascade_share: float
) -> dict[str, float]:
    """All figures of one sample, flat: `student`, `CRITERION|random|0.05`, `cascade|0.1`."""
    by_student, by_teacher = (same_side(by, scores.labels, cutoffs) for by in (scores.student, scores.teacher))
    student, teacher = float(by_student.mean()), float(by_teacher.mean())
    figures = {"student": student, "teacher": teacher}
    ranked = criteria(scores, cutoffs) | {BEST: by_teacher.astype(np.float64) - by_student}
    for name, criterion in ranked.items():
        for share in shares:
            sent = chosen(criterion, share)
            agreement = float(np.where(sent, by_teacher, by_student).mean())
            part = float(sent.mean())
            figures[f"{name}|student|{share:g}"] = agreement - student
            figures[f"{name}|random|{share:g}"] = agreement - ((1 - part) * student + part * teacher)
    if scores.second is not None:
        figures["second"] = float(same_side(scores.second, scores.labels, cutoffs).mean())
        for share in (0, *shares):
            final = cascade(scores, cutoffs, cascade_share, share)
            figures[f"cascade|{share:g}"] = float(same_side(final, scores.labels, cutoffs).mean()) - student
    return figures


def columns(trial: EscalationTrial) -> tuple[str, ...]:
    """Return the names of the columns of `rows`."""
    return ("chosen by", "minus", *(f"{share:.0%} [95 %]" for share in trial.shares))


def rows(trial: EscalationTrial) -> list[list[Any]]:
    """Return two rows per criterion, its gain over the student alone and over chance, and one of the cascade."""
    bases = {"student": "student alone", "random": "same share at random"}
    table: list[list[Any]] = [
        [name, bases[over], *map(_signed, by_base[over])] for name, by_base in trial.gains.items() for over in OVER
    ]
    if trial.cascade_share is not None:
        name = f"cascade, student for {trial.cascade_share:.0%}"
        table.append([name, "student for all", *map(_signed, trial.cascade[1:])])
    return table


def summary(trial: EscalationTrial) -> str:
    """Return one sentence with the agreement of each model alone."""
    names = {"student": "student", "teacher": "teacher", "second": "second student"}
    alone = "; ".join(f"{names[name]} {estimate}" for name, estimate in trial.alone.items())
    without = (
        f"; second student, then student for {trial.cascade_share:.0%}, without a teacher: {_signed(trial.cascade[0])} "
        "against the student for all"
        if trial.cascade_share is not None
        else ""
    )
    return f"agreement with people at {', '.join(f'{cutoff:g}' for cutoff in trial.cutoffs)}: {alone}{without}"


def markdown(trial: EscalationTrial, title: str) -> str:
    """Write the trial as a Markdown page."""
    remark = (
        "Differences of agreement: the share of the images on people's side of every cut-off. Brackets: 95 % bootstrap "
        "interval over images, paired. At random: the expected value. Best possible: chosen by people's opinions."
    )
    return "\n\n".join([f"# {title}", summary(trial), markdown_table(columns(trial), rows(trial)), remark]) + "\n"


def _signed(gain: Estimate) -> str:
    bounds = f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]" if gain.interval else ""
    return f"{gain.value:+.3f}{bounds}"
