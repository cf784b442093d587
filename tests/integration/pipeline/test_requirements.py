"""Requirements made from real files by real decode processes, and stored in a real ledger."""

import json
import threading

import pytest
from support.photos import png
from support.prompting import CARD, write_line

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound, StoreUnavailable
from dpiqa.objects.files import LocalFiles
from dpiqa.pipeline.feeder import Feeder
from dpiqa.requirement import Pair, RequirementRequest
from dpiqa.requirements.builder import Workshop, create, prepare_again
from dpiqa.requirements.pair_images import PairReader
from dpiqa.requirements.pending import prepare_pending
from dpiqa.storage import requirements as rows
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirement_queries import show_requirement
from dpiqa.storage.requirements import find
from dpiqa.types import Direction, RequirementState

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Shop:
    """A workshop with the straight-line model, on files of known brightness."""

    def __init__(self, engine, decoder, settings, store, folder, tmp_path):
        self.engine, self.store, self.folder = engine, store, folder
        self.models = tmp_path / "models"
        self.model = write_line(self.models)
        self.loaded = 0
        settings = settings.model_copy(update={"models_dir": self.models})
        self.shop = Workshop(engine, decoder, settings, load=self.load)
        for number, level in enumerate(LEVELS):
            (folder / f"{number}.png").write_bytes(png(level))

    def load(self, name, settings):
        self.loaded += 1
        return self.model

    def wanted(self, scores=LEVELS, *, scheme="", **changes):
        pairs = tuple(Pair(f"{scheme or self.folder}/{number}.png", score) for number, score in enumerate(scores))
        values = {"name": "bright", "pairs": pairs, "direction": Direction.HIGHER, "model": "line"} | changes
        return RequirementRequest(**values)

    def create(self, wanted=None):
        return create(self.shop, wanted or self.wanted(), PairReader(self.store, LocalFiles()))

    def submit(self, wanted=None):
        """Add a pending requirement, as the API does."""
        with transaction(self.engine) as c:
            return rows.add_requirement(c, wanted or self.wanted(scheme="s3://bucket"))

    def prepare(self, requirement, store=None, stopping=None):
        prepare_pending(self.shop, requirement.row_id, store or self.store, stopping or threading.Event())
        return self.now(requirement)

    def now(self, requirement):
        with transaction(self.engine) as c:
            return rows.read_requirement(c, requirement.id)

    def found(self, name="bright", **options):
        with transaction(self.engine) as c:
            return find(c, name, **options)


@pytest.fixture
def shop(engine, decoder, settings, store, folder, tmp_path):
    return Shop(engine, decoder, settings, store, folder, tmp_path)


def test_created_once_and_ready_to_score_by(shop):
    made = shop.create()
    assert (made.id, made.state) == ("bright@1", RequirementState.READY)
    found = shop.found()
    assert (found.id, found.base_scorer_id) == ("bright@1", CARD.scorer_id)
    assert found.features[:, 1] == pytest.approx(LEVELS)
    with transaction(shop.engine) as c:
        row, pairs = show_requirement(c, "bright")
    (check,) = row.checks
    assert (row.n_pairs, check.stability.srcc) == (5, 1)
    assert check.stability.mae == pytest.approx(0, abs=0.01)
    assert [pair.score for pair in pairs] == list(LEVELS)
    assert len({pair.sha256 for pair in pairs}) == 5


def test_the_same_again_is_the_same_version_and_costs_no_model(shop, tmp_path):
    first = shop.create()
    moved = tmp_path / "moved"
    shop.folder.rename(moved)
    shop.folder = moved
    again = shop.create(shop.wanted(LEVELS))
    assert (again, shop.loaded) == (first, 1)


def test_any_change_is_a_new_version(shop):
    first = shop.create()
    changed = [
        shop.create(shop.wanted((0.1, 0.3, 0.5, 0.7, 0.85))),
        shop.create(shop.wanted(direction=Direction.LOWER)),
    ]
    (shop.folder / "4.png").write_bytes(png(0.95))
    changed.append(shop.create())
    assert [first.id, *(one.id for one in changed)] == ["bright@1", "bright@2", "bright@3", "bright@4"]
    assert shop.found("bright@1").features[4, 0] == pytest.approx(0.9, abs=0.01)


def test_another_checkpoint_gets_features_of_its_own(shop):
    first = shop.create()
    shop.model = write_line(shop.models, CARD.model_copy(update={"sha256": "d" * 64}))
    assert shop.create() == first
    assert shop.loaded == 2
    with transaction(shop.engine) as c:
        row, _ = show_requirement(c, "bright")
        assert [check.scorer_id for check in row.checks] == [shop.model.card.scorer_id, CARD.scorer_id]
        assert find(c, "bright", scorer_id=CARD.scorer_id).base_scorer_id == CARD.scorer_id


def again(shop, name="bright", **options):
    return prepare_again(shop.shop, name, PairReader(shop.store, LocalFiles()), **options)


def test_an_exchanged_checkpoint_is_given_features_from_what_is_stored(shop):
    made = shop.prepare(shop.submit())
    again(shop)
    assert shop.loaded == 1  # it has its features
    shop.model = write_line(shop.models, CARD.model_copy(update={"sha256": "d" * 64}))
    with pytest.raises(ConfigurationError, match="dpiqa requirements prepare bright@1 --model line"):
        shop.found(scorer_id=shop.model.card.scorer_id)
    assert again(shop).id == made.id
    assert shop.found(scorer_id=shop.model.card.scorer_id).features[:, 1] == pytest.approx(LEVELS)


def test_only_from_the_same_bytes_and_for_what_is_ready(shop):
    shop.submit(shop.wanted(name="waits"))
    with pytest.raises(InvalidRequest, match="waits@1 is pending"):
        again(shop, "waits")
    shop.create()
    shop.model = write_line(shop.models, CARD.model_copy(update={"sha256": "d" * 64}))
    (shop.folder / "2.png").write_bytes(png(0.52))
    with pytest.raises(InvalidRequest, match=r"not what they were: .*/2.png"):
        again(shop)
    with pytest.raises(NotFound):
        again(shop, "nonesuch")


def test_every_unreadable_image_is_named_with_its_reason(shop):
    (shop.folder / "0.png").write_bytes(b"no image")
    (shop.folder / "1.png").write_bytes(b"")
    (shop.folder / "2.png").unlink()
    (shop.folder / "3.png").write_bytes(png(0.5)[:-40])
    with pytest.raises(InvalidRequest) as caught:
        shop.create()
    said = caught.value.message
    assert said.startswith("4 of 5 images cannot be used: ")
    for words in ("0.png: not_an_image", "1.png: empty", "2.png: there is no such file", "3.png: truncated"):
        assert words in said
    assert shop.loaded == 0


def test_what_is_refused_leaves_nothing(shop):
    with pytest.raises(InvalidRequest, match="contradict"):
        shop.create(shop.wanted((0.9, 0.1, 0.9, 0.1, 0.9)))
    with pytest.raises(InvalidRequest, match="it is of kind pixels"):
        shop.create(shop.wanted(model="brightness"))
    with pytest.raises(NotFound):
        shop.create(shop.wanted(model="nonesuch"))
    with pytest.raises(NotFound):
        shop.found()
    forced = shop.create(shop.wanted((0.9, 0.1, 0.9, 0.1, 0.9), force=True))
    assert forced.id == "bright@1"


def test_a_worker_prepares_what_was_submitted(shop):
    pending = shop.submit()
    with pytest.raises(ConfigurationError, match="not checked yet"):
        shop.found()
    assert shop.prepare(pending).state is RequirementState.READY
    assert shop.found().features[:, 1] == pytest.approx(LEVELS)
    shop.prepare(pending)  # a second bell
    assert shop.loaded == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": (0.9, 0.1, 0.9, 0.1, 0.9)}, "contradict each other"),
        ({"scores": (*LEVELS, 0.6)}, "bucket/5.png: there is no such file or object"),
        ({"model": "nonesuch"}, "no model is called 'nonesuch'"),
        ({"scheme": "/etc"}, "access_denied, files are read by"),
    ],
)
def test_a_worker_refuses_with_the_reason(shop, change, says):
    scheme = change.pop("scheme", "s3://bucket")
    ended = shop.prepare(shop.submit(shop.wanted(change.pop("scores", LEVELS), scheme=scheme, **change)))
    assert ended.state is RequirementState.REFUSED
    assert says in ended.error


def test_a_twin_is_named_and_gets_the_features(shop):
    first = shop.create()
    shop.model = write_line(shop.models, CARD.model_copy(update={"sha256": "d" * 64}))
    ended = shop.prepare(shop.submit())
    assert (ended.id, ended.state) == ("bright@2", RequirementState.REFUSED)
    assert "are bright@1 already (score by bright@1)" in ended.error
    assert shop.found(first.id).base_scorer_id == shop.model.card.scorer_id


class Away:
    def get(self, ref, max_bytes):
        raise StoreUnavailable("S3 does not answer")


def test_what_the_world_delays_is_rung_again(shop, bell, settings):
    pending = shop.submit()
    for _ in range(settings.max_crashes + 1):  # S3 may be away as often as it likes
        assert shop.prepare(pending, Away()).state is RequirementState.PENDING
    Feeder(shop.engine, bell, settings).look()
    assert bell.requirements == [pending.row_id]
    assert shop.prepare(pending).state is RequirementState.READY
    Feeder(shop.engine, bell, settings).look()
    assert bell.requirements == [pending.row_id]


def test_a_worker_that_stops_gives_back(shop):
    stopping = threading.Event()
    stopping.set()
    pending = shop.submit()
    assert shop.prepare(pending, stopping=stopping).state is RequirementState.PENDING
    assert shop.prepare(pending).state is RequirementState.READY


def expire(shop):
    with transaction(shop.engine) as c:
        c.exec_driver_sql("UPDATE requirements SET lease_until = clock_timestamp() - interval '1 s'")


def test_a_dead_worker_is_followed_by_another(shop, bell, settings):
    pending = shop.submit()
    with transaction(shop.engine) as c:
        rows.start_preparing(c, pending.row_id, 60)
    shop.prepare(pending)
    assert shop.loaded == 0  # somebody holds it
    expire(shop)
    Feeder(shop.engine, bell, settings).look()
    assert bell.requirements == [pending.row_id]
    assert shop.prepare(pending).state is RequirementState.READY


def test_what_kills_every_worker_is_refused(shop, settings):
    pending = shop.submit()
    for _ in range(settings.max_crashes):
        with transaction(shop.engine) as c:
            assert rows.start_preparing(c, pending.row_id, 60)
        expire(shop)
    ended = shop.prepare(pending)
    assert (ended.state, shop.loaded) == (RequirementState.REFUSED, 0)
    assert f"{settings.max_crashes} workers died of it" in ended.error


def test_a_worker_that_lost_its_lease_leaves_the_outcome_to_the_other(shop):
    pending = shop.submit()

    def load(name, settings):
        expire(shop)
        with transaction(shop.engine) as c:
            rows.start_preparing(c, pending.row_id, 60)
        return shop.model

    slow = Workshop(shop.engine, shop.shop.decoder, shop.shop.settings, load=load)
    prepare_pending(slow, pending.row_id, shop.store, threading.Event())
    assert shop.now(pending).state is RequirementState.PENDING


def test_contradictions_are_kept_with_a_forced_requirement(shop):
    (shop.folder / "5.png").write_bytes(png(0.3))
    shop.create(shop.wanted((*LEVELS, 0.9), force=True))
    with transaction(shop.engine) as c:
        row, _ = show_requirement(c, "bright@1")
    assert row.requirement.force
    (sentence,) = row.checks[0].contradictions
    assert json.dumps(sentence).count(".png") == 2
    assert "same image" in sentence
