"""A run of `dpiqa score`: images are scored and handed on as they are known, until the end or Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from types import FrameType

from dpiqa.cli.scores.rows import as_row, name_of
from dpiqa.cli.scores.summary import Tally
from dpiqa.cli.support.progress import RunProgress, running
from dpiqa.cli.support.targets import Targets
from dpiqa.errors import DpiqaError, InvalidRequest
from dpiqa.exports.growing import GrowingFile, Row, stamp
from dpiqa.models.base import Scorer
from dpiqa.models.cards import find_scorer_card
from dpiqa.models.choice import ModelChoice
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.local_run import Observer, ScoredObject, score_by_each
from dpiqa.pipeline.scorers import card_of
from dpiqa.profiles import Profile
from dpiqa.scorer_id import ScorerId
from dpiqa.settings import Settings
from dpiqa.sources.folders import PassedOver
from dpiqa.types import ImageRef, Rendition

_BLOCK_ROWS = 64  #: rows that are handed on at once
_BLOCK_SECONDS = 1.0  #: after which fewer are


@dataclass(slots=True)
class Run:
    """The images and the models of a run, and what became of it."""

    settings: Settings
    targets: Targets
    scored_by: Sequence[Profile | ModelChoice]
    scorers: Mapping[ModelChoice, Scorer] = field(default_factory=dict)  #: in memory already
    limit: int | None = None
    details: bool = False  #: whether pictures are measured
    known: GrowingFile | None = None  #: rows of earlier runs
    retry_failed: bool = False  #: also images that an earlier run could not score
    only_failed: bool = False  #: and no others
    tally: Tally = field(default_factory=Tally)
    passed_over: PassedOver = field(default_factory=PassedOver)
    n_known: int = 0  #: images that earlier runs have done
    n_known_failed: int = 0  #: of these, not scored
    interrupted: bool = False  #: by Ctrl-C

    @property
    def names(self) -> list[str]:
        """Names of the models or profiles, as columns show them."""
        return [name_of(by) for by in self.scored_by]

    def check_known(self) -> None:
        """Raise `InvalidRequest` if the known rows were scored by other scorers than those of this run."""
        ids = _scorer_ids(self.scored_by, self.settings)
        if self.known is None or ids is None:
            return
        for other in sorted(self.known.scorer_ids() - ids):
            if any(_gives_the_same(other, scorer_id) for scorer_id in ids):
                continue
            same = find_scorer_card(other, self.settings.models_dir)
            before = "the same model as before" if same is None else f"--model {same.name}, which has its weights"
            raise InvalidRequest(
                f"{self.known.path} holds scores by {other}, which is not what this command scores by",
                hint=f"name another --output, {before}, or --overwrite",
            )

    def rows(self) -> Iterator[list[Row]]:
        """Yield blocks of rows as they are known; after Ctrl-C what there is, and no more.

        A second Ctrl-C raises `KeyboardInterrupt`. Raises as `score_by_each` after the rows that are known.
        """
        block: list[Row] = []
        since = time.monotonic()
        with running() as progress, _Interrupt() as interrupt:
            self._count_in_background(progress)
            images = self._scored(progress)
            try:
                while (image := interrupt.next(images)) is not None:
                    progress.enter("")
                    self.tally.add(image)
                    block.append(as_row(self.names, image))
                    if len(block) >= _BLOCK_ROWS or time.monotonic() - since >= _BLOCK_SECONDS:
                        yield block
                        block, since = [], time.monotonic()
            except KeyboardInterrupt:
                self.interrupted = True
            except DpiqaError:
                yield block
                raise
            if block:
                yield block

    def _scored(self, progress: RunProgress) -> Iterator[list[ScoredObject]]:
        observer = Observer(
            loading=lambda choice: progress.enter(f"loading {choice.model}"),
            loaded=lambda: progress.enter(""),
            scored=progress.add,
        )
        refs = self._refs(progress)
        first = next(refs, None)  # nothing to do: no model is loaded
        if first is None:
            return
        store = self.targets.store or LocalFiles()
        yield from score_by_each(
            store,
            _chain(first, refs),
            self.scored_by,
            settings=self.settings,
            scorers=self.scorers,
            observer=observer,
            details=self.details,
        )

    def _refs(self, progress: RunProgress) -> Iterator[ImageRef]:
        """Yield the images to score. The bytes at the time of reading count, not those of a listing."""
        for ref in islice(self.targets.refs(self.passed_over), self.limit):
            if self._is_done(ref):
                progress.skip()
            else:
                yield replace(ref, etag="")

    def _is_done(self, ref: ImageRef) -> bool:
        """Return whether an earlier run has done it, and counts it if so."""
        row = None if self.known is None else self.known.find((ref.bucket, ref.key) if ref.bucket else (ref.key,))
        if row is None:
            return self.only_failed
        if row.is_failed:
            done = not self.retry_failed
        else:
            done = self.only_failed or row.fits(ref.etag, stamp(ref.size, ref.last_modified))
        if row.is_failed and done and not row.fits(ref.etag, stamp(ref.size, ref.last_modified)):
            done = False  # the bytes have changed since
        self.n_known += done
        self.n_known_failed += done and row.is_failed
        return done

    def _count_in_background(self, progress: RunProgress) -> None:
        """Find out how many images there are while the model is loaded and the first ones are scored."""

        def count() -> None:
            with suppress(DpiqaError):  # the run itself meets it, too
                progress.total = sum(1 for _ in islice(self.targets.refs(), self.limit))

        threading.Thread(target=count, name="count", daemon=True).start()


def _chain(first: ImageRef, others: Iterable[ImageRef]) -> Iterator[ImageRef]:
    yield first
    yield from others


def _scorer_ids(scored_by: Sequence[Profile | ModelChoice], settings: Settings) -> frozenset[str] | None:
    """Return the ids under which these score; None where a requirement's newest version is not known yet."""
    ids: set[str] = set()
    for by in scored_by:
        for choice in [by] if isinstance(by, ModelChoice) else by.choices.values():
            if choice.requirement is not None and "@" not in choice.requirement:
                return None
            card = card_of(choice, settings)
            card = card.model_copy(update={"requirement": choice.requirement})
            ids |= {card.rendered(rendition).scorer_id for rendition in Rendition}
    return frozenset(ids)


def _gives_the_same(stored: str, own: str) -> bool:
    """Return whether rows by `stored` may stand beside those by `own`; False where a file has other text instead."""
    try:
        return ScorerId.parse(stored).same_but_for_name(ScorerId.parse(own))
    except ValueError:
        return False


class _Interrupt:
    """Ctrl-C ends the wait for the next image, and lets rows be written to the end. The second one ends it all."""

    def __init__(self) -> None:
        self._asked = self._waits = False
        self._before: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> "_Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def next(self, images: Iterator[list[ScoredObject]]) -> list[ScoredObject] | None:
        """Return the next image; None at the end. Raises `KeyboardInterrupt`."""
        if self._asked:
            raise KeyboardInterrupt
        self._waits = True
        try:
            return next(images, None)
        finally:
            self._waits = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or self._waits:
            self._asked, self._waits = True, False
            raise KeyboardInterrupt
        self._asked = True
