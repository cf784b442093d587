import pytest
from support import documents
from support.ledger import Ledger, ref
from typer.testing import CliRunner

from dpiqa.cli.main import app
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.profiles import load_profile
from dpiqa.routing import decide
from dpiqa.storage.claims import claim
from dpiqa.storage.engine import make_engine
from dpiqa.storage.items import Rejected, Scored
from dpiqa.storage.results import record
from dpiqa.types import Reason, Stage


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings, no stack of the developer's."""
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DPIQA_PROFILE", "smoke")
    monkeypatch.setenv("DPIQA_DECODE_PROCESSES", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    documents.watch(monkeypatch)


@pytest.fixture
def run():
    """Run a command line in this process."""
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def system(monkeypatch, database_url, broker_url, s3):
    """Settings of real servers in the environment; gives the bucket."""
    monkeypatch.setenv("DPIQA_DATABASE_URL", database_url)
    monkeypatch.setenv("DPIQA_BROKER_URL", broker_url)
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return s3


CARDS = {Stage.STUDENT: BRIGHTNESS, Stage.TEACHER: BRIGHTNESS.model_copy(update={"name": "judge"})}


class WorkerLedger(Ledger):
    """A ledger in which a worker of `smoke@1` recorded its work."""

    def worker_records(self, stage, outcomes):
        return self.do(record, stage, self.profile, CARDS[stage], outcomes, decide=decide)

    def worker_claims(self, ids, stage=Stage.STUDENT, profile_id=None):
        return self.do(
            claim,
            ids,
            stage=stage,
            owner="w",
            lease_seconds=60,
            scorer_ids={profile_id or self.profile.id: CARDS[stage].scorer_id},
        )


@pytest.fixture
def ledger(system, database_url):
    engine = make_engine(database_url, pool_size=1)
    yield WorkerLedger(engine, load_profile("smoke"))
    engine.dispose()


@pytest.fixture
def scored(ledger, system):
    """A complete job: 1,100 images with scores 0.000 to 1.099, one rejected; those at 0.400-0.600 by the teacher."""
    job, ids = ledger.submit(
        [ref(f"k/{n:04}.png", f"e{n}", bucket=system.name) for n in range(1101)],
        bucket=system.name,
        prefix="k/",
    )
    claims = ledger.worker_claims(ids)
    outcomes = [Scored(claim, n / 1000, claim.ref.etag) for n, claim in enumerate(claims[:-1])]
    recorded = ledger.worker_records(Stage.STUDENT, [*outcomes, Rejected(claims[-1], Reason.TRUNCATED, "ends early")])
    asked = ledger.worker_claims(recorded.teacher_items, Stage.TEACHER)
    ledger.worker_records(Stage.TEACHER, [Scored(claim, 0.55, claim.ref.etag) for claim in asked])
    return job
