"""Agreement of scores with mean opinion scores, as the field measures it."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Agreement:
    """Figures over one set of images. Higher is better but for `rmse`."""

    n: int
    srcc: float  #: Spearman's rank correlation
    plcc: float  #: Pearson's correlation of the raw scores
    krcc: float  #: Kendall's tau-b
    rmse: float  #: root mean squared error, in units of the labels

    def as_dict(self) -> dict[str, float]:
        """Return the figures rounded to four places, for a card."""
        return {k: round(v, 4) for k, v in asdict(self).items()}


def agreement(scores: np.ndarray, labels: np.ndarray) -> Agreement:
    """`scores` and `labels`, both (N,), N >= 2. Raises `ValueError` if they differ in length or hold a NaN."""
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"expected two vectors of one length >= 2, got {scores.shape} and {labels.shape}")
    if not (np.isfinite(scores).all() and np.isfinite(labels).all()):
        raise ValueError("scores and labels must be finite")
    return Agreement(
        n=len(scores),
        srcc=srcc(scores, labels),
        plcc=float(stats.pearsonr(scores, labels).statistic),
        krcc=float(stats.kendalltau(scores, labels).statistic),
        rmse=float(np.sqrt(np.mean((scores - labels) ** 2))),
    )


def srcc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(stats.spearmanr(scores, labels).statistic)


def srcc_interval(
    scores: np.ndarray, labels: np.ndarray, *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the SRCC over images."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, len(scores), (draws, len(scores)))
    values = [srcc(scores[sample], labels[sample]) for sample in samples]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
