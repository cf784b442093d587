"""A profile's routing on labelled images, against the student alone and the same share at random, and its report.

Pure. A decision is right when the score lies on people's side of every cut-off (see `dpiqa.evaluation.paired`).
"""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.agreement import srcc
from dpiqa.evaluation.intervals import DRAWS, LEVEL, Estimate, Interval, bootstrap, percentile_interval, rounded
from dpiqa.evaluation.paired import Disagreement, PairedScores, disagreement, same_side
from dpiqa.profiles import Profile
from dpiqa.routing import decide
from dpiqa.text import markdown_table
from dpiqa.types import Route

STRATEGIES = ("student", "routed", "random", "teacher")  #: who decides; in the order of tables
ORDERS = 50  #: orders of arrival that the figures are means over
DISAGREEMENT_COLUMNS = ("part", "name", "n", "mean absolute difference", "mean difference", "opposite sides")
_STUDENT, _TEACHER = 0, 1  #: rows of `PairedScores.scores`
_STRATEGY_NAMES = {
    "student": "student alone",
    "routed": "routed",
    "random": "same share at random",
    "teacher": "teacher for all",
}


@dataclass(frozen=True, kw_only=True)
class RoutingTrial:
    """Results of a trial. Agreement: share of the images decided as people's mean opinion scores decide them."""

    profile: Profile
    n: int
    share: Estimate  #: of the images that went to the teacher
    agreement: dict[str, Estimate]  #: by strategy
    by_cutoff: dict[str, tuple[float, ...]]  #: agreement at each cut-off alone, by strategy but `random`
    srcc: dict[str, Estimate]  #: of the scores that each strategy ends with
    random_range: Interval  #: of agreement over random choices of the images that go to the teacher
    gains: dict[str, Estimate]  #: agreement of `routed` minus that of `student`, `random`, `teacher`, paired
    disagreement: Disagreement  #: teacher against student

    @property
    def improves(self) -> bool:
        """Return whether routing is better than the student alone and than chance, with intervals above 0."""
        intervals = [self.gains[strategy].interval for strategy in ("student", "random")]
        return all(interval is not None and interval[0] > 0 for interval in intervals)

    @property
    def verdict(self) -> str:
        """One sentence with both differences."""
        verb = "improves" if self.improves else "does not clearly improve"
        over = f"{_signed(self.gains['student'])} over the student alone and {_signed(self.gains['random'])} over"
        reason = "" if self.improves else "; both intervals would have to lie above 0"
        return (
            f"Routing by {self.profile.id} {verb} decisions: agreement with people changes by {over} escalating the "
            f"same share ({self.share.value:.1%}) at random{reason}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything for a card or a report."""
        return {
            "profile": self.profile.id,
            "cutoffs": [cutoff.model_dump() for cutoff in self.profile.cutoffs],
            "max_escalated_share": self.profile.max_escalated_share,
            "n": self.n,
            "escalated_share": self.share.as_dict(),
            "agreement": {name: estimate.as_dict() for name, estimate in self.agreement.items()},
            "agreement_by_cutoff": {name: [round(v, 4) for v in values] for name, values in self.by_cutoff.items()},
            "random_choices_95": rounded(self.random_range),
            "srcc": {name: estimate.as_dict() for name, estimate in self.srcc.items()},
            "gain_of_routed_over": {name: estimate.as_dict() for name, estimate in self.gains.items()},
            "improves": self.improves,
            "verdict": self.verdict,
            "teacher_against_student": self.disagreement.as_dict(),
        }


def try_routing(
    paired: PairedScores, profile: Profile, *, chunk: int, draws: int = DRAWS, seed: int = 0
) -> RoutingTrial:
    """Apply the profile to scores of its student and teacher (`paired.scores` rows 0 and 1).

    Figures are means over `ORDERS` seeded orders of arrival; intervals are of `draws` bootstrap samples of the images,
    each routed in an order of its own, all strategies on the same sample. `chunk` as in `escalated`. The agreement by
    chance is computed, not drawn: with a share p escalated at random, it is (1 - p) times the student's plus p times
    the teacher's on average. Raises `InvalidRequest` for a profile that never escalates.
    """
    check_routes(profile)
    n = len(paired.labels)
    rng = np.random.default_rng(seed)
    orders = [_figures(paired.only(rng.permutation(n)), profile, chunk) for _ in range(ORDERS)]
    values = {name: fmean(figures[name] for figures in orders) for name in orders[0]}
    intervals = bootstrap(lambda rows: _figures(paired.only(rows), profile, chunk), n, draws=draws, seed=seed)
    estimates = {name: Estimate(value, intervals.get(name)) for name, value in values.items()}
    cutoffs = [cutoff.at for cutoff in profile.cutoffs]

    def by_strategy(figure: str) -> dict[str, Estimate]:
        names = {strategy: f"{figure} {strategy}" for strategy in STRATEGIES}
        return {strategy: estimates[name] for strategy, name in names.items() if name in estimates}

    return RoutingTrial(
        profile=profile,
        n=n,
        share=estimates["share"],
        agreement=by_strategy("agreement"),
        by_cutoff={
            strategy: tuple(values[f"cutoff {index} {strategy}"] for index in range(len(cutoffs)))
            for strategy in STRATEGIES
            if strategy != "random"
        },
        srcc=by_strategy("srcc"),
        random_range=_random_range(paired, cutoffs, values["share"], draws, rng),
        gains=by_strategy("gain"),
        disagreement=disagreement(
            paired.scores[_STUDENT], paired.scores[_TEACHER], paired.subsets, cutoffs, draws=draws, seed=seed
        ),
    )


def check_routes(profile: Profile) -> None:
    """Raise `InvalidRequest` for a profile that never escalates."""
    if profile.teacher is None or not profile.cutoffs or not profile.max_escalated_share:
        raise InvalidRequest(
            f"the profile {profile.id} never asks a teacher",
            hint="choose one with a teacher, cut-offs and a share (`dpiqa profiles show NAME`)",
        )


def escalated(student: np.ndarray, profile: Profile, chunk: int) -> np.ndarray:
    """Apply the profile's policy to student scores (N,), in this order -> (N,) bool, which images the teacher sees.

    `chunk`: images that a worker decides about at once; within it the nearest to a cut-off go first, and the budget is
    that of all images so far. So the order of arrival matters a little.
    """
    sent: list[bool] = []
    for start in range(0, len(student), chunk):
        scores = student[start : start + chunk].tolist()
        routes = decide(scores, profile, scored_before=len(sent), escalated_before=sum(sent))
        sent += [route is Route.BORDERLINE for route in routes]
    return np.array(sent, dtype=bool)


def _figures(paired: PairedScores, profile: Profile, chunk: int) -> dict[str, float]:
    """All figures of one sample in one order of arrival, flat: `agreement routed`, `srcc teacher`, ..."""
    student, teacher = paired.scores
    sent = escalated(student, profile, chunk)
    scores_of = {"student": student, "routed": np.where(sent, teacher, student), "teacher": teacher}
    share = float(sent.mean())
    figures = {"share": share}
    cutoffs = [cutoff.at for cutoff in profile.cutoffs]
    for strategy, scores in scores_of.items():
        figures[f"agreement {strategy}"] = float(same_side(scores, paired.labels, cutoffs).mean())
        figures[f"srcc {strategy}"] = srcc(scores, paired.labels)
        for index, cutoff in enumerate(cutoffs):
            figures[f"cutoff {index} {strategy}"] = float(same_side(scores, paired.labels, [cutoff]).mean())
    figures["agreement random"] = (1 - share) * figures["agreement student"] + share * figures["agreement teacher"]
    for strategy in ("student", "random", "teacher"):
        figures[f"gain {strategy}"] = figures["agreement routed"] - figures[f"agreement {strategy}"]
    return figures


def _random_range(
    paired: PairedScores, cutoffs: list[float], share: float, draws: int, rng: np.random.Generator
) -> Interval:
    """Interval of agreement over random choices of the escalated images, the images themselves fixed."""
    student, teacher = (same_side(scores, paired.labels, cutoffs) for scores in paired.scores)
    count = round(share * paired.labels.size)
    agreements = []
    for _ in range(draws):
        right = student.copy()
        rows = rng.choice(len(right), count, replace=False)
        right[rows] = teacher[rows]
        agreements.append(float(right.mean()))
    return percentile_interval(np.array(agreements), LEVEL)


def title(trial: RoutingTrial, data: str) -> str:
    """Return the title of the table. `data`: name and split of the data set."""
    return f"{trial.profile.id} on {data}: {trial.n} images, {trial.share} of them escalated"


def columns(trial: RoutingTrial) -> tuple[str, ...]:
    """Return the names of the columns: one for each cut-off where there are several."""
    cutoffs = [f"at {cutoff.at:g}" for cutoff in trial.profile.cutoffs] if len(trial.profile.cutoffs) > 1 else []
    return ("who decides", "agreement [95 %]", *cutoffs, "routed minus this [95 %]", "SRCC [95 %]")


def rows(trial: RoutingTrial) -> list[list[Any]]:
    """One row per strategy, in the order of `STRATEGIES`; the cells are those of `columns`."""
    count = len(trial.profile.cutoffs)
    at_cutoffs = {
        name: [f"{value:.3f}" for value in trial.by_cutoff[name]] if name in trial.by_cutoff else [""] * count
        for name in STRATEGIES
    }
    return [
        [
            _STRATEGY_NAMES[name],
            str(trial.agreement[name]),
            *(at_cutoffs[name] if count > 1 else []),
            str(trial.gains.get(name, "")),
            str(trial.srcc.get(name, "")),
        ]
        for name in STRATEGIES
    ]


def disagreement_rows(disagreement: Disagreement) -> list[list[Any]]:
    """Rows of where teacher and student disagree: all images, each subset, each fifth of the student's scores."""
    groups = {
        "all": (disagreement.whole,),
        "subset": disagreement.by_subset,
        "student's score": disagreement.by_range,
    }
    return [
        [
            kind,
            difference.name,
            difference.n,
            f"{difference.mean_absolute:.3f}",
            f"{difference.mean_difference:+.3f}",
            "-" if difference.opposite is None else f"{difference.opposite:.1%}",
        ]
        for kind, differences in groups.items()
        for difference in differences
    ]


def markdown(trial: RoutingTrial, data: str) -> str:
    """Write the trial as a Markdown page."""
    bounds = trial.random_range
    chance = f" ({bounds[0]:.3f} to {bounds[1]:.3f} in 95 % of random choices)" if bounds else ""
    remark = (
        f"Agreement: share of the images on people's side of every cut-off. At random: the expected value{chance}. "
        "Brackets: 95 % bootstrap interval over images, differences paired."
    )
    apart = (
        f"SRCC between their scores: {trial.disagreement.srcc}. Differences are teacher minus student, MOS/100; 95 % "
        f"of the images differ by at most {trial.disagreement.p95_absolute:.3f}."
    )
    sections = [f"# {title(trial, data)}", trial.verdict, markdown_table(columns(trial), rows(trial)), remark]
    sections += ["## Teacher against student", apart]
    sections += [markdown_table(DISAGREEMENT_COLUMNS, disagreement_rows(trial.disagreement))]
    return "\n\n".join(sections) + "\n"


def card_sections(trial: RoutingTrial, data: str) -> dict[str, dict[str, Any]]:
    """Return the section for cards, by name: what routing does on `data`, and how teacher and student disagree."""
    return {f"routing on {data}, profile {trial.profile.id}": trial.as_dict()}


def _signed(gain: Estimate) -> str:
    bounds = f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]" if gain.interval else ""
    return f"{gain.value:+.3f}{bounds}"
