"""How much two models disagree about the same images, and where. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpiqa.evaluation.correlation import srcc
from dpiqa.evaluation.decisions import same_side
from dpiqa.evaluation.intervals import DRAWS, Estimate, bootstrap

_RANGES = 5  #: of the first model's scores: its fifths


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the images. Differences are second minus first, MOS/100."""

    name: str
    n: int
    mean_difference: float
    mean_absolute: float
    opposite: float | None  #: share on opposite sides of some cut-off; None without cut-offs

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        opposite = {} if self.opposite is None else {"opposite_sides": round(self.opposite, 4)}
        return {
            "n": self.n,
            "mean_difference": round(self.mean_difference, 4),
            "mean_absolute_difference": round(self.mean_absolute, 4),
        } | opposite


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The second model against the first."""

    srcc: Estimate  #: between their scores
    whole: Part
    p95_absolute: float  #: 95 % of the images differ by at most this
    by_subset: tuple[Part, ...]
    by_range: tuple[Part, ...]  #: fifths of the first's scores, lowest first

    @property
    def largest(self) -> dict[str, Part]:
        """Return the subset and the range whose mean absolute difference is largest, where there are any."""
        kinds = {"subset": self.by_subset, "range": self.by_range}
        return {kind: max(parts, key=lambda one: one.mean_absolute) for kind, parts in kinds.items() if parts}

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        return {
            "srcc": self.srcc.as_dict(),
            **self.whole.as_dict(),
            "p95_absolute_difference": round(self.p95_absolute, 4),
            "largest": {kind: part.name for kind, part in self.largest.items()},
            "subsets": {part.name: part.as_dict() for part in self.by_subset},
            "ranges": [{"scores": part.name, **part.as_dict()} for part in self.by_range],
        }


def disagreement(
    first: np.ndarray,
    second: np.ndarray,
    subsets: np.ndarray,
    cutoffs: Sequence[float] = (),
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Disagreement:
    """Compare scores of two models, (N,) each, N >= 2, of images whose subsets are (N,) str ("": none)."""
    drawn = bootstrap(lambda rows: {"srcc": srcc(first[rows], second[rows])}, len(first), draws=draws, seed=seed)
    names = sorted({*subsets.tolist()} - {""})
    everything = np.ones(len(first), dtype=bool)
    return Disagreement(
        srcc=Estimate(srcc(first, second), drawn.get("srcc")),
        whole=_part("all", first, second, everything, cutoffs),
        p95_absolute=float(np.quantile(np.abs(second - first), 0.95)),
        by_subset=tuple(_part(name, first, second, subsets == name, cutoffs) for name in names),
        by_range=tuple(_part(name, first, second, keep, cutoffs) for name, keep in _ranges(first)),
    )


def _ranges(scores: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Fifths of the scores by name, e.g. `0.21 to 0.38`; each image is in one; none is empty."""
    bounds = np.quantile(scores, np.linspace(0, 1, _RANGES + 1))
    fifth = np.searchsorted(bounds[1:-1], scores, side="right")
    found = [(f"{scores[fifth == i].min():.2f} to {scores[fifth == i].max():.2f}", fifth == i) for i in set(fifth)]
    return sorted(found, key=lambda one: float(scores[one[1]].min()))


def _part(name: str, first: np.ndarray, second: np.ndarray, keep: np.ndarray, cutoffs: Sequence[float]) -> Part:
    differences = second[keep] - first[keep]
    opposite = 1 - float(same_side(first[keep], second[keep], cutoffs).mean()) if cutoffs else None
    return Part(
        name=name,
        n=int(keep.sum()),
        mean_difference=float(differences.mean()),
        mean_absolute=float(np.abs(differences).mean()),
        opposite=opposite,
    )
