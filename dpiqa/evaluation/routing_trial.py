"""Does it pay to route? A profile's policy against the student alone and the same share escalated at random. Pure."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.correlation import srcc
from dpiqa.evaluation.decisions import escalated, same_side
from dpiqa.evaluation.disagreement import Disagreement, disagreement
from dpiqa.evaluation.intervals import DRAWS, LEVEL, Estimate, Interval, bootstrap, percentile_interval, rounded
from dpiqa.evaluation.joint import Joint
from dpiqa.profiles import Profile

STRATEGIES = ("student", "routed", "random", "teacher")  #: who decides; in the order of tables
ORDERS = 50  #: orders of arrival that the figures are means over
_STUDENT, _TEACHER = 0, 1  #: rows of `Joint.scores`


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came out. Agreement: share of the images that are decided as people's mean opinion score decides them."""

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
        """Whether routing is better than the student alone and than chance, with intervals above 0."""
        found = [self.gains[other].interval for other in ("student", "random")]
        return all(interval is not None and interval[0] > 0 for interval in found)

    @property
    def verdict(self) -> str:
        """One sentence with both differences."""
        says = "improves" if self.improves else "does not clearly improve"
        over = f"{_signed(self.gains['student'])} over the student alone and {_signed(self.gains['random'])} over"
        reason = "" if self.improves else "; both intervals would have to lie above 0"
        return (
            f"Routing by {self.profile.id} {says} decisions: agreement with people changes by {over} escalating the "
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
            "agreement": {name: one.as_dict() for name, one in self.agreement.items()},
            "agreement_by_cutoff": {name: [round(v, 4) for v in values] for name, values in self.by_cutoff.items()},
            "random_choices_95": rounded(self.random_range),
            "srcc": {name: one.as_dict() for name, one in self.srcc.items()},
            "gain_of_routed_over": {name: one.as_dict() for name, one in self.gains.items()},
            "improves": self.improves,
            "verdict": self.verdict,
            "teacher_against_student": self.disagreement.as_dict(),
        }


def try_routing(joint: Joint, profile: Profile, *, chunk: int, draws: int = DRAWS, seed: int = 0) -> Trial:
    """Apply the profile to scores of its student and teacher (`joint.scores` rows 0 and 1).

    Figures are means over `ORDERS` seeded orders of arrival; intervals are of `draws` bootstrap samples of the images,
    each routed anew in its own order, all strategies on the same sample. `chunk` as in `escalated`. What chance would
    do is computed, not drawn: with a share p escalated at random, agreement is (1 - p) times the student's plus p times
    the teacher's on average. Raises `InvalidRequest` for a profile that never escalates.
    """
    check_routes(profile)
    rng = np.random.default_rng(seed)
    orders = [_figures(joint.only(rng.permutation(len(joint.labels))), profile, chunk) for _ in range(ORDERS)]
    values = {name: fmean(one[name] for one in orders) for name in orders[0]}
    drawn = bootstrap(
        lambda rows: _figures(joint.only(rows), profile, chunk), len(joint.labels), draws=draws, seed=seed
    )
    estimates = {name: Estimate(value, drawn.get(name)) for name, value in values.items()}
    cutoffs = [cutoff.at for cutoff in profile.cutoffs]
    return Trial(
        profile=profile,
        n=len(joint.labels),
        share=estimates["share"],
        agreement=_named(estimates, "agreement"),
        by_cutoff=_by_cutoff(values, len(cutoffs)),
        srcc=_named(estimates, "srcc"),
        random_range=_random_range(joint, cutoffs, values["share"], draws, rng),
        gains=_named(estimates, "gain"),
        disagreement=disagreement(
            joint.scores[_STUDENT], joint.scores[_TEACHER], joint.subsets, cutoffs, draws=draws, seed=seed
        ),
    )


def _figures(joint: Joint, profile: Profile, chunk: int) -> dict[str, float]:
    """All figures of one sample in one order of arrival, flat: `agreement routed`, `srcc teacher`, ..."""
    student, teacher = joint.scores
    sent = escalated(student, profile, chunk)
    scores = {"student": student, "routed": np.where(sent, teacher, student), "teacher": teacher}
    share = float(sent.mean())
    found = {"share": share}
    cutoffs = [cutoff.at for cutoff in profile.cutoffs]
    for name, these in scores.items():
        found[f"agreement {name}"] = float(same_side(these, joint.labels, cutoffs).mean())
        found[f"srcc {name}"] = srcc(these, joint.labels)
        for place, cutoff in enumerate(cutoffs):
            found[f"cutoff {place} {name}"] = float(same_side(these, joint.labels, [cutoff]).mean())
    by_chance = (1 - share) * found["agreement student"] + share * found["agreement teacher"]
    found["agreement random"] = by_chance
    for other in ("student", "random", "teacher"):
        found[f"gain {other}"] = found["agreement routed"] - found[f"agreement {other}"]
    return found


def _random_range(joint: Joint, cutoffs: list[float], share: float, draws: int, rng: np.random.Generator) -> Interval:
    """Interval of agreement over random choices of the escalated images, the images themselves fixed."""
    student, teacher = (same_side(scores, joint.labels, cutoffs) for scores in joint.scores)
    count = round(share * joint.labels.size)
    found = []
    for _ in range(draws):
        right = student.copy()
        chosen = rng.choice(len(right), count, replace=False)
        right[chosen] = teacher[chosen]
        found.append(float(right.mean()))
    return percentile_interval(np.array(found), LEVEL)


def _named(estimates: dict[str, Estimate], what: str) -> dict[str, Estimate]:
    found = {name: estimates.get(f"{what} {name}") for name in STRATEGIES}
    return {name: one for name, one in found.items() if one is not None}


def _by_cutoff(values: dict[str, float], count: int) -> dict[str, tuple[float, ...]]:
    names = [name for name in STRATEGIES if name != "random"]
    return {name: tuple(values[f"cutoff {place} {name}"] for place in range(count)) for name in names}


def check_routes(profile: Profile) -> None:
    """Raise `InvalidRequest` for a profile that never escalates."""
    if profile.teacher is None or not profile.cutoffs or not profile.max_escalated_share:
        raise InvalidRequest(
            f"the profile {profile.id} never asks a teacher",
            hint="choose one with a teacher, cut-offs and a share (`dpiqa profiles show NAME`)",
        )


def _signed(gain: Estimate) -> str:
    bounds = f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]" if gain.interval else ""
    return f"{gain.value:+.3f}{bounds}"
