"""Scorers as a process uses them: checked, loaded by its settings, and warmed up.

The database is imported where it is used: `dpiqa score` needs it for requirements only, and it takes half a second.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import structlog

from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.models.base import AllocatesBuffers, ModelCard, NamesDevice, Scorer
from dpiqa.models.cards import find_card
from dpiqa.models.catalogue.pulled import require_accepted
from dpiqa.models.choice import ModelChoice, require_role
from dpiqa.models.loading import load_scorer, scorer_card
from dpiqa.profiles import Profile, require_one_direction
from dpiqa.settings import Settings
from dpiqa.types import Backend, Direction, ModelKind, Stage

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = structlog.get_logger()
T = TypeVar("T")

BATCH_SIZE = 16  #: images of a small network, unless the settings say so
LEAST_ON_CPU = 4  #: the same on a CPU with few threads
#: A batch may take this many times longer than the warm-up suggests before the device counts as hung.
HANG_FACTOR = 10
#: Opens a transaction; called only when a requirement must be read.
Transact = Callable[[], "AbstractContextManager[Connection]"]


@dataclass(eq=False, slots=True)
class LoadedScorer:
    """A scorer in memory, with the batch size that fits."""

    scorer: Scorer
    max_batch: int  #: images; becomes smaller when the device runs out of memory
    batch_seconds: float = 0.0  #: time limit of a batch on a slow device, where the device's own limit is less

    @property
    def card(self) -> ModelCard:
        """Card of the scorer's model."""
        return self.scorer.card

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of the pixels of one image."""
        size = self.card.preprocessing
        return size.height, size.width, 3

    def buffer(self) -> np.ndarray:
        """Return a buffer (max_batch, H, W, 3) uint8, in memory that a GPU reads by itself where it runs on one."""
        shape = (self.max_batch, *self.image_shape)
        return self.scorer.buffer(shape) if isinstance(self.scorer, AllocatesBuffers) else np.empty(shape, np.uint8)


def warm_up(scorer: Scorer, max_batch: int) -> LoadedScorer:
    """Score one blank image: the first call of a model is slow, and one that cannot run should fail early.

    Its time sets the limit of a batch on this device: a large teacher needs minutes on a CPU without being hung.
    """
    preprocessing = scorer.card.preprocessing
    started = time.monotonic()
    blank = np.zeros((1, preprocessing.height, preprocessing.width, 3), dtype=np.uint8)
    _in_a_thread_that_ends(lambda: scorer.score(blank))
    seconds = time.monotonic() - started
    log.info("model_ready", scorer=scorer.card.scorer_id, first_image_seconds=round(seconds, 3))
    return LoadedScorer(scorer, max_batch, batch_seconds=HANG_FACTOR * max_batch * seconds)


def load_for_settings(
    choice: ModelChoice, settings: Settings, transact: Transact | None = None, *, stage: Stage | None = None
) -> Scorer:
    """Load a scorer onto the settings' device.

    `transact` opens the transaction that reads a requirement; by default one on the settings' database. `stage`: also
    check that the model may serve a profile there. Raises as `load_scorer` and opening a transaction, and
    `NotFound` or `ConfigurationError` for a requirement that does not exist or is not ready.
    """
    check_choice(choice, settings, stage)
    requirement = None
    if choice.requirement is not None:
        card = card_of(choice, settings)
        from dpiqa.storage.requirements import find_prepared  # noqa: PLC0415 - see above

        with transact() if transact is not None else database_of(settings) as connection:
            requirement = find_prepared(connection, choice.requirement, scorer_id=card.scorer_id)
    if settings.device_memory_share is not None:
        from dpiqa.models.torch_scorer import limit_memory  # noqa: PLC0415 - torch, which not all models need

        limit_memory(settings.device, settings.device_memory_share)
    return _in_a_thread_that_ends(
        lambda: load_scorer(
            choice,
            device=settings.device,
            models_dir=settings.models_dir,
            threads=settings.threads,
            requirement=requirement,
            backend=settings.backend,
            cache_dir=settings.cache_dir,
        )
    )


def _in_a_thread_that_ends(work: Callable[[], T]) -> T:
    """Return the result of `work`, which computes with torch but is not the device's thread.

    OpenMP keeps threads for each thread that has ever computed, until that one ends. If there are more of them in a
    process than processors, they sleep at each barrier where they would spin: on two cores the device's thread then
    takes twice the time for a batch of a bundled student (27 to 28 ms an image, 13 to 16 without).
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name="load-model", daemon=True)  # Ctrl-C does not wait for it
    thread.start()
    value = result.result()
    thread.join()
    return value


def card_of(choice: ModelChoice, settings: Settings) -> ModelCard:
    """Return the card of the scorer that a choice makes on the settings' device, but for its requirement.

    Weights are not read. Raises `NotFound` or `ConfigurationError` for a model that is not installed or cannot run so.
    """
    return scorer_card(choice, settings.models_dir, backend=settings.backend, device=settings.device)


def for_short_run(settings: Settings) -> Settings:
    """Return the settings of a run that may be of one picture: `auto` is eager there, which starts the fastest."""
    is_auto = settings.backend is Backend.AUTO
    return settings.model_copy(update={"backend": Backend.EAGER}) if is_auto else settings


@contextmanager
def database_of(settings: Settings) -> "Iterator[Connection]":
    """Yield one transaction on the settings' database, for a process without a connection pool.

    Raises `ConfigurationError` where none is configured, `DatabaseUnavailable`.
    """
    if not settings.database_url:
        raise ConfigurationError(
            "requirements are kept in the database, and none is configured",
            hint="set DPIQA_DATABASE_URL, or start one with `dpiqa local up`",
        )
    from dpiqa.storage.engine import open_engine, transaction  # noqa: PLC0415 - see above

    engine = open_engine(settings, "dpiqa-score", pool_size=1)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def batch_size(scorer: Scorer, settings: Settings) -> int:
    """Return the number of images per batch: few for large networks, in either stage, and on a CPU with few threads.

    On two threads, `bundled-student` takes no longer for an image in batches of 4 than of 16, and half of the memory
    (benchmarks/README.md). More threads get an image each, since OpenVINO computes a picture on one of them.
    """
    if scorer.card.kind in {ModelKind.TEACHER, ModelKind.PROMPTIQA}:
        return settings.teacher_batch_size
    if settings.batch_size is not None:
        return settings.batch_size
    on_cpu = isinstance(scorer, NamesDevice) and scorer.device == "cpu"
    return min(BATCH_SIZE, max(LEAST_ON_CPU, settings.threads or os.cpu_count() or 1)) if on_cpu else BATCH_SIZE


def check_choice(choice: ModelChoice, settings: Settings, stage: Stage | None = None) -> None:
    """Raise `NotFound` or `ConfigurationError` for a model that is not installed or cannot run as chosen.

    `stage`: also for one that cannot serve there. The same for one whose licence must be accepted, and was not. Weights
    are not read, and a requirement is not looked up.
    """
    card = card_of(choice, settings)
    require_accepted(card, settings.models_dir, settings.accepted_licences.split())
    if stage is not None:
        require_role(card, stage)


def check_profile(profile: Profile, settings: Settings) -> None:
    """Call `check_choice` for every model of the profile, and `check_directions`."""
    for stage, choice in profile.choices.items():
        check_choice(choice, settings, stage)
    check_directions(profile, settings)


def check_directions(
    profile: Profile, settings: Settings, loaded: Mapping[Stage, ModelCard] = MappingProxyType({})
) -> None:
    """Raise `ConfigurationError` where the scores of student and teacher run against each other.

    `loaded`: cards of models in memory. Others are looked up; one that is not installed, or scores by a requirement,
    which only the database knows, is not compared.
    """
    cards = dict(loaded)
    for stage, choice in profile.choices.items():
        if stage not in cards and choice.requirement is None:
            with suppress(NotFound):
                cards[stage] = find_card(choice.model, settings.models_dir)
    directions = {s: Direction.LOWER if card.lower_is_better else Direction.HIGHER for s, card in cards.items()}
    require_one_direction(profile, directions)
