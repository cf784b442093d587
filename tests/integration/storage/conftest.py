import pytest
from support.ledger import BOTH, Ledger

from dpiqa.storage.engine import make_engine


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url, pool_size=16)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine):
    """A ledger whose profile has no teacher."""
    return Ledger(engine)


@pytest.fixture
def ledger_with_teacher(engine):
    return Ledger(engine, BOTH)
