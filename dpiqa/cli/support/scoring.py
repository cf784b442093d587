"""One model scoring labelled images, as production does, with a progress bar."""

from collections.abc import Callable, Sequence

from dpiqa.cli.support.progress import counting
from dpiqa.datasets.spec import LabelledImage
from dpiqa.evaluation.scored_images import ScoredImages, score_labelled
from dpiqa.imaging.decode import Limits
from dpiqa.models.base import Scorer
from dpiqa.models.choice import parse_choice
from dpiqa.pipeline.scorers import batch_size, load_for_settings
from dpiqa.settings import Settings


def load_scorer(settings: Settings, model: str, requirement: str | None) -> Scorer:
    """Return the scorer, in memory.

    Raises as `load_for_settings`, and `InvalidRequest` for a requirement's name that is not valid.
    """
    return load_for_settings(parse_choice(model=model, requirement=requirement), settings)


def score_function(settings: Settings, scorer: Scorer) -> Callable[[Sequence[LabelledImage]], ScoredImages]:
    """Return a function that scores images as production does, with a progress bar.

    It is a `dpiqa.evaluation.measurement.Score`, whose module needs scipy: commands that measure nothing do not.
    """

    def score(images: Sequence[LabelledImage]) -> ScoredImages:
        with counting(f"scoring with {scorer.card.name}", len(images)) as advance:
            return score_labelled(
                scorer,
                images,
                batch=batch_size(scorer, settings),
                processes=settings.decode_processes,
                limits=Limits.from_settings(settings),
                advance=advance,
            )

    return score
