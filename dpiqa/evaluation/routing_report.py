"""A routing trial as people read it. Pure."""

from typing import Any

from dpiqa.evaluation.disagreement import Disagreement
from dpiqa.evaluation.report import table
from dpiqa.evaluation.routing_trial import STRATEGIES, Trial

PART_COLUMNS = ("part", "name", "n", "mean absolute difference", "mean difference", "opposite sides")
_WHO = {
    "student": "student alone",
    "routed": "routed",
    "random": "same share at random",
    "teacher": "teacher for all",
}


def title(trial: Trial, data: str) -> str:
    """Say what the table is of."""
    return f"{trial.profile.id} on {data}: {trial.n} images, {trial.share} of them escalated"


def columns(trial: Trial) -> tuple[str, ...]:
    """Name the columns: one for each cut-off where there are several."""
    cutoffs = [f"at {cutoff.at:g}" for cutoff in trial.profile.cutoffs] if len(trial.profile.cutoffs) > 1 else []
    return ("who decides", "agreement [95 %]", *cutoffs, "routed minus this [95 %]", "SRCC [95 %]")


def rows(trial: Trial) -> list[list[Any]]:
    """One row per strategy, in the order of `STRATEGIES`."""
    return [
        [
            _WHO[name],
            str(trial.agreement[name]),
            *_at_cutoffs(trial, name),
            str(trial.gains[name]) if name in trial.gains else "",
            str(trial.srcc[name]) if name in trial.srcc else "",
        ]
        for name in STRATEGIES
    ]


def part_rows(found: Disagreement) -> list[list[Any]]:
    """Say where teacher and student disagree: for all images, for each subset, for each fifth of student's scores."""
    groups = {"all": (found.whole,), "subset": found.by_subset, "student's score": found.by_range}
    return [
        [
            kind,
            part.name,
            part.n,
            f"{part.mean_absolute:.3f}",
            f"{part.mean_difference:+.3f}",
            "-" if part.opposite is None else f"{part.opposite:.1%}",
        ]
        for kind, parts in groups.items()
        for part in parts
    ]


def markdown(trial: Trial, data: str) -> str:
    """Write the trial as a Markdown page."""
    low_high = trial.random_range
    chance = f" ({low_high[0]:.3f} to {low_high[1]:.3f} in 95 % of random choices)" if low_high else ""
    remark = (
        f"Agreement: share of the images on people's side of every cut-off. At random: the expected value{chance}. "
        "Brackets: 95 % bootstrap interval over images, differences paired."
    )
    apart = (
        f"SRCC between their scores: {trial.disagreement.srcc}. Differences are teacher minus student, MOS/100; 95 % "
        f"of the images differ by at most {trial.disagreement.p95_absolute:.3f}."
    )
    parts = [f"# {title(trial, data)}", trial.verdict, table(columns(trial), rows(trial)), remark]
    parts += ["## Teacher against student", apart, table(PART_COLUMNS, part_rows(trial.disagreement))]
    return "\n\n".join(parts) + "\n"


def _at_cutoffs(trial: Trial, name: str) -> list[str]:
    count = len(trial.profile.cutoffs)
    if count == 1:
        return []
    return [f"{value:.3f}" for value in trial.by_cutoff[name]] if name in trial.by_cutoff else [""] * count
