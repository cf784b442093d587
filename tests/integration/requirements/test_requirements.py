"""Requirements built from real files by real decode processes, and stored in a real database."""

import json
import threading

import pytest
from support.photos import png
from support.prompting import CARD, write_line

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound, StoreUnavailable
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.feeder import Feeder
from dpiqa.requirement import Pair, RequirementRequest
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pair_images import PairReader
from dpiqa.requirements.pending import prepare_pending
from dpiqa.storage import requirements as rows
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirement_queries import show_requirement
from dpiqa.storage.requirements import find_prepared
from dpiqa.types import Direction, RequirementState

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Requirements:
    """A builder with the straight-line model, on files of known brightness."""

    def __init__(self, engine, decoder, settings, store, folder, tmp_path):
        self.engine, self.store, self.folder = engine, store, folder
        self.models = tmp_path / "models"
        self.model = write_line(self.models)
        self.loaded = 0
        settings = settings.model_copy(update={"models_dir": self.models})
        self.builder = RequirementBuilder(engine, decoder, settings, load=self.load)
        for number, level in enumerate(LEVELS):
            (folder / f"{number}.png").write_bytes(png(level))

    def load(self, name, settings):
        self.loaded += 1
        return self.model

    def request(self, scores=LEVELS, *, scheme="", **changes):
        pairs = tuple(Pair(f"{scheme or self.folder}/{number}.png", score) for number, score in enumerate(scores))
        values = {"name": "bright", "pairs": pairs, "direction": Direction.HIGHER, "model": "line"} | changes
        return RequirementRequest(**values)

    def create(self, request=None):
        return self.builder.create(request or self.request(), PairReader(self.store, LocalFiles()))

    def submit(self, request=None):
        """Add a pending requirement, as the API does."""
        with transaction(self.engine) as c:
            return rows.add_requirement(c, request or self.request(scheme="s3://bucket"))

    def prepare(self, requirement, store=None, stopping=None):
        prepare_pending(self.builder, requirement.row_id, store or self.store, stopping or threading.Event())
        return self.now(requirement)

    def now(self, requirement):
        with transaction(self.engine) as c:
            return rows.read_requirement(c, requirement.id)

    def find(self, name="bright", **options):
        with transaction(self.engine) as c:
            return find_prepared(c, name, **options)


@pytest.fixture
def requirements(engine, decoder, settings, store, folder, tmp_path):
    return Requirements(engine, decoder, settings, store, folder, tmp_path)


def test_created_once_and_ready_to_score_by(requirements):
    version = requirements.create()
    assert (version.id, version.state) == ("bright@1", RequirementState.READY)
    prepared = requirements.find()
    assert (prepared.id, prepared.base_scorer_id) == ("bright@1", CARD.scorer_id)
    assert prepared.features[:, 1] == pytest.approx(LEVELS)
    with transaction(requirements.engine) as c:
        row = show_requirement(c, "bright")
    (check,) = row.checks
    assert (row.n_pairs, check.leave_one_out_srcc) == (5, 1)
    assert check.leave_one_out_mae == pytest.approx(0, abs=0.01)
    assert [pair.score for pair in row.pairs] == list(LEVELS)
    assert len({pair.sha256 for pair in row.pairs}) == 5


def test_the_same_again_is_the_same_version_and_costs_no_model(requirements, tmp_path):
    first = requirements.create()
    moved = tmp_path / "moved"
    requirements.folder.rename(moved)
    requirements.folder = moved
    again = requirements.create(requirements.request(LEVELS))
    assert (again, requirements.loaded) == (first, 1)


def test_any_change_is_a_new_version(requirements):
    first = requirements.create()
    changed = [
        requirements.create(requirements.request((0.1, 0.3, 0.5, 0.7, 0.85))),
        requirements.create(requirements.request(direction=Direction.LOWER)),
    ]
    (requirements.folder / "4.png").write_bytes(png(0.95))
    changed.append(requirements.create())
    assert [first.id, *(version.id for version in changed)] == ["bright@1", "bright@2", "bright@3", "bright@4"]
    assert requirements.find("bright@1").features[4, 0] == pytest.approx(0.9, abs=0.01)


def test_another_checkpoint_gets_features_of_its_own(requirements):
    first = requirements.create()
    requirements.model = write_line(requirements.models, CARD.model_copy(update={"sha256": "d" * 64}))
    assert requirements.create() == first
    assert requirements.loaded == 2
    with transaction(requirements.engine) as c:
        row = show_requirement(c, "bright")
        assert [check.scorer_id for check in row.checks] == [requirements.model.card.scorer_id, CARD.scorer_id]
        assert find_prepared(c, "bright", scorer_id=CARD.scorer_id).base_scorer_id == CARD.scorer_id


def again(requirements, name="bright", **options):
    return requirements.builder.prepare_again(name, PairReader(requirements.store, LocalFiles()), **options)


def test_an_exchanged_checkpoint_is_given_features_from_what_is_stored(requirements):
    version = requirements.prepare(requirements.submit())
    again(requirements)
    assert requirements.loaded == 1  # it has its features
    requirements.model = write_line(requirements.models, CARD.model_copy(update={"sha256": "d" * 64}))
    with pytest.raises(ConfigurationError, match="dpiqa requirements prepare bright@1 --model line"):
        requirements.find(scorer_id=requirements.model.card.scorer_id)
    assert again(requirements).id == version.id
    assert requirements.find(scorer_id=requirements.model.card.scorer_id).features[:, 1] == pytest.approx(LEVELS)


def test_only_from_the_same_bytes_and_for_what_is_ready(requirements):
    requirements.submit(requirements.request(name="waits"))
    with pytest.raises(InvalidRequest, match="waits@1 is pending"):
        again(requirements, "waits")
    requirements.create()
    requirements.model = write_line(requirements.models, CARD.model_copy(update={"sha256": "d" * 64}))
    (requirements.folder / "2.png").write_bytes(png(0.52))
    with pytest.raises(InvalidRequest, match=r"have changed: .*/2.png"):
        again(requirements)
    with pytest.raises(NotFound):
        again(requirements, "nonesuch")


def test_every_unreadable_image_is_named_with_its_reason(requirements):
    (requirements.folder / "0.png").write_bytes(b"no image")
    (requirements.folder / "1.png").write_bytes(b"")
    (requirements.folder / "2.png").unlink()
    (requirements.folder / "3.png").write_bytes(png(0.5)[:-40])
    with pytest.raises(InvalidRequest) as caught:
        requirements.create()
    message = caught.value.message
    assert message.startswith("4 of 5 images cannot be used: ")
    for words in ("0.png: not_an_image", "1.png: empty", "2.png: there is no such file", "3.png: truncated"):
        assert words in message
    assert requirements.loaded == 0


def test_what_is_refused_leaves_nothing(requirements):
    with pytest.raises(InvalidRequest, match="contradict"):
        requirements.create(requirements.request((0.9, 0.1, 0.9, 0.1, 0.9)))
    with pytest.raises(InvalidRequest, match="it is of kind pixels"):
        requirements.create(requirements.request(model="brightness"))
    with pytest.raises(NotFound):
        requirements.create(requirements.request(model="nonesuch"))
    with pytest.raises(NotFound):
        requirements.find()
    forced = requirements.create(requirements.request((0.9, 0.1, 0.9, 0.1, 0.9), force=True))
    assert forced.id == "bright@1"


def test_a_worker_prepares_what_was_submitted(requirements):
    pending = requirements.submit()
    with pytest.raises(ConfigurationError, match="not checked yet"):
        requirements.find()
    assert requirements.prepare(pending).state is RequirementState.READY
    assert requirements.find().features[:, 1] == pytest.approx(LEVELS)
    requirements.prepare(pending)  # a second message
    assert requirements.loaded == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": (0.9, 0.1, 0.9, 0.1, 0.9)}, "contradict each other"),
        ({"scores": (*LEVELS, 0.6)}, "bucket/5.png: there is no such file or object"),
        ({"model": "nonesuch"}, "no model called 'nonesuch'"),
        ({"scheme": "/etc"}, "access_denied, files are read by"),
    ],
)
def test_a_worker_refuses_with_the_reason(requirements, change, message):
    scheme = change.pop("scheme", "s3://bucket")
    ended = requirements.prepare(
        requirements.submit(requirements.request(change.pop("scores", LEVELS), scheme=scheme, **change))
    )
    assert ended.state is RequirementState.REFUSED
    assert message in ended.error


def test_a_twin_is_named_and_gets_the_features(requirements):
    first = requirements.create()
    requirements.model = write_line(requirements.models, CARD.model_copy(update={"sha256": "d" * 64}))
    ended = requirements.prepare(requirements.submit())
    assert (ended.id, ended.state) == ("bright@2", RequirementState.REFUSED)
    assert "are bright@1 already (score by bright@1)" in ended.error
    assert requirements.find(first.id).base_scorer_id == requirements.model.card.scorer_id


class Unavailable:
    def get(self, ref, max_bytes):
        raise StoreUnavailable("S3 does not answer")


def test_what_the_world_delays_is_rung_again(requirements, doorbell, settings):
    pending = requirements.submit()
    for _ in range(settings.max_crashes + 1):  # S3 may be unavailable any number of times
        assert requirements.prepare(pending, Unavailable()).state is RequirementState.PENDING
    Feeder(requirements.engine, doorbell, settings).poll()
    assert doorbell.requirements == [pending.row_id]
    assert requirements.prepare(pending).state is RequirementState.READY
    Feeder(requirements.engine, doorbell, settings).poll()
    assert doorbell.requirements == [pending.row_id]


def test_a_worker_that_stops_gives_back(requirements):
    stopping = threading.Event()
    stopping.set()
    pending = requirements.submit()
    assert requirements.prepare(pending, stopping=stopping).state is RequirementState.PENDING
    assert requirements.prepare(pending).state is RequirementState.READY


def expire(requirements):
    with transaction(requirements.engine) as c:
        c.exec_driver_sql("UPDATE requirements SET lease_until = clock_timestamp() - interval '1 s'")


def test_a_dead_worker_is_followed_by_another(requirements, doorbell, settings):
    pending = requirements.submit()
    with transaction(requirements.engine) as c:
        rows.start_preparing(c, pending.row_id, 60)
    requirements.prepare(pending)
    assert requirements.loaded == 0  # somebody holds it
    expire(requirements)
    Feeder(requirements.engine, doorbell, settings).poll()
    assert doorbell.requirements == [pending.row_id]
    assert requirements.prepare(pending).state is RequirementState.READY


def test_what_kills_every_worker_is_refused(requirements, settings):
    pending = requirements.submit()
    for _ in range(settings.max_crashes):
        with transaction(requirements.engine) as c:
            assert rows.start_preparing(c, pending.row_id, 60)
        expire(requirements)
    ended = requirements.prepare(pending)
    assert (ended.state, requirements.loaded) == (RequirementState.REFUSED, 0)
    assert f"{settings.max_crashes} workers died over it" in ended.error


def test_a_worker_that_lost_its_lease_leaves_the_outcome_to_the_other(requirements):
    pending = requirements.submit()

    def load(name, settings):
        expire(requirements)
        with transaction(requirements.engine) as c:
            rows.start_preparing(c, pending.row_id, 60)
        return requirements.model

    slow = RequirementBuilder(
        requirements.engine, requirements.builder.decoder, requirements.builder.settings, load=load
    )
    prepare_pending(slow, pending.row_id, requirements.store, threading.Event())
    assert requirements.now(pending).state is RequirementState.PENDING


def test_contradictions_are_kept_with_a_forced_requirement(requirements):
    (requirements.folder / "5.png").write_bytes(png(0.3))
    requirements.create(requirements.request((*LEVELS, 0.9), force=True))
    with transaction(requirements.engine) as c:
        row = show_requirement(c, "bright@1")
    assert row.force
    (sentence,) = row.checks[0].contradictions
    assert json.dumps(sentence).count(".png") == 2
    assert "same image" in sentence
