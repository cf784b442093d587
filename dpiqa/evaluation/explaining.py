"""Making of explanations that people asked for: by the student that a worker has loaded, one worker at a time."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.errors import DpiqaError, ImageRejected, LeaseLost, ObjectChanged, ObjectGone, Unavailable
from dpiqa.evaluation.saliency import Saliency, of_scores, views_of
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.leases import LeaseKeeper
from dpiqa.pipeline.preparer import Decoder, Preparer, Reader
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.storage import explanations
from dpiqa.storage.engine import transaction
from dpiqa.storage.explanations import Explanation
from dpiqa.text import first_line
from dpiqa.types import ImageRef

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Student:
    """The parts of a student's worker that read and score an image."""

    store: Reader
    decoder: Decoder
    settings: Settings
    scorers: LoadedScorers
    device: Device

    def explain(self, ref: ImageRef, profile: str) -> tuple[Saliency, str]:
        """Score the regions of an image by a profile's student; also return its scorer id.

        Raises `ImageRejected`, `ObjectGone`, `ObjectChanged`, `Unavailable`, and as `LoadedScorers.scorer`.
        """
        scorer = self.scorers.scorer(profile)
        with closing(Preparer(self.store, self.decoder, self.settings)) as preparer:
            preprocessing = scorer.card.preprocessing
            prepared = preparer.submit(ref, [preprocessing], is_measured=True).result()
            pixels, measures = prepared.pixels[preprocessing].result(), prepared.image.measures
        size = preprocessing.picture_size(measures.width, measures.height) if measures is not None else None
        scores = [self.device.submit(scorer, view) for view in views_of(pixels, size)]
        scorer_id = scorer.card.rendered(prepared.image.rendition).scorer_id
        return of_scores([score.result() for score in scores]), scorer_id


def make_explanation(engine: Engine, row_id: int, student: Student) -> None:
    """Make a pending explanation, or say why it cannot be made. Does nothing when another worker makes it.

    While the store is unavailable it is released, and the feeder announces it again.
    """

    def commit(statements: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            with transaction(engine) as c:
                return statements(c)

        return retry_transaction(attempt)

    lease_seconds, started = student.settings.lease_seconds, monotonic()
    taken = commit(lambda c: explanations.start_explanation(c, row_id, lease_seconds))
    if taken is None:
        return
    explanation, ref = taken

    def renew(leases: Sequence[tuple[int, int]]) -> set[int]:
        return commit(lambda c: explanations.renew_explanations(c, leases, lease_seconds))

    with closing(LeaseKeeper(renew, lease_seconds)) as keeper:
        keeper.hold([(explanation.id, explanation.attempt)], started)
        try:
            settle = _outcome(explanation, ref, student)
            commit(lambda c: settle(c, explanation))
        except LeaseLost as error:
            log.info("explanation_taken_over", explanation=row_id, error=str(error))


def _outcome(explanation: Explanation, ref: ImageRef, student: Student) -> Callable[[Connection, Explanation], None]:
    """Return what is to be stored."""

    def fails(error: str) -> Callable[[Connection, Explanation], None]:
        return lambda c, held: explanations.fail_explanation(c, held, error)

    if explanation.crashes >= student.settings.max_crashes:
        return fails(f"{explanation.crashes} workers died over it or failed at it")
    try:
        found, scorer_id = student.explain(ref, explanation.profile)
    except Unavailable as error:
        log.warning("explanation_postponed", error=first_line(error))
        return explanations.release_explanation
    except (ImageRejected, ObjectGone, ObjectChanged) as error:
        return fails(error.message)
    except DpiqaError as error:
        log.warning("explanation_failed", error=first_line(error))
        return fails("the student cannot be run; the log of the worker says why")
    effect = [float(cell) for cell in found.effect.ravel()]
    return lambda c, held: explanations.finish_explanation(
        c, held, scorer_id=scorer_id, score=found.score, effect=effect
    )
