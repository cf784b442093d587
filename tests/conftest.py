"""Real servers for the tests: Postgres, Valkey and S3/SQS on loopback, one set per pytest process.

They start when a test first asks for them, end with pytest, and die with it if it is killed.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path

import pytest
import redis
import structlog
from hypothesis import settings as hypothesis_settings
from support.buckets import Bucket
from support.postgres import UNSAFE_AND_FAST, NamedServer, drop_database

from dpiqa.local.postgres import Postgres
from dpiqa.local.s3 import S3
from dpiqa.local.valkey import Valkey
from dpiqa.storage import schema

TEMPLATE = f"dpiqa_template_{os.getpid()}"  # of this process: others may test on the same server
# A busy machine is not a failure, and what failed once must fail again.
hypothesis_settings.register_profile("dpiqa", deadline=None, derandomize=True)
hypothesis_settings.load_profile("dpiqa")
SERVER_URL = (
    "DPIQA_TEST_DATABASE_URL"  #: of a Postgres to test on instead of the embedded one; its user may create databases
)
#: The other one: label files of published data sets, for tests that skip without them.
KEPT = {"DPIQA_LABELS_DIR", SERVER_URL}


def pytest_configure(config):
    """Keep the developer's own settings, stacks and credentials out of the tests, and out of what they start."""
    for name in list(os.environ):
        if name.startswith(("DPIQA_", "AWS_")) and name not in KEPT:
            del os.environ[name]
    os.environ["DPIQA_HOME"] = str(Path(tempfile.gettempdir()) / "dpiqa-tests-have-no-home")
    os.environ["XDG_DATA_HOME"] = str(Path(tempfile.gettempdir()) / "dpiqa-tests-have-no-models")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of a thousand processes compiles dpiqa for itself
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `make test &` in a script: the tests' processes inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def _configure_uncached(*args, **options):
    """Configure structlog so that loggers which were used before follow: tests capture and configure in any order."""
    _CONFIGURE(*args, **{**options, "cache_logger_on_first_use": False})


_CONFIGURE, structlog.configure = structlog.configure, _configure_uncached
# Tests that configure nothing print lines by structlog's default, whose tracebacks take seconds each to draw.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback


@contextlib.contextmanager
def _logging_restored():
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    was_configured = structlog.is_configured()
    yield
    root.handlers[:], root.level = handlers, level
    if was_configured:
        structlog.configure(**config)
    else:
        structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="module")
def module_logging():
    """Leave the logging as it was before the module's first test."""
    with _logging_restored():
        yield


@pytest.fixture(autouse=True)
def own_logging(module_logging):
    """Leave the logging as it was before the test."""
    with _logging_restored():
        yield


@pytest.fixture(scope="session")
def server_home():
    """A folder that other users may pass through: as root, Postgres runs as `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="dpiqa-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_home):
    """Give the running `Postgres`, or the one that is named, with a template database at the newest schema."""
    if url := os.environ.get(SERVER_URL):
        server = NamedServer(url)
        server.create_database(TEMPLATE)
        schema.upgrade(server.url(TEMPLATE))
        yield server
        drop_database(server, TEMPLATE)
        return
    server = Postgres(server_home / "postgres", server_home / "postgres.log", options=UNSAFE_AND_FAST)
    server.start()
    try:
        server.create_database(TEMPLATE)
        schema.upgrade(server.url(TEMPLATE))
        yield server
    finally:
        server.stop()


@pytest.fixture
def database_url(postgres_server):
    """URL of a fresh database at the newest schema."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.create_database(name, TEMPLATE)
    yield postgres_server.url(name)
    drop_database(postgres_server, name)


@pytest.fixture
def empty_database_url(postgres_server):
    """URL of a fresh database without tables, for migrations."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.create_database(name)
    yield postgres_server.url(name)
    drop_database(postgres_server, name)


@pytest.fixture(scope="session")
def valkey_server(server_home):
    """Give the running `Valkey`."""
    server = Valkey(server_home / "valkey", server_home / "valkey.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker_url(valkey_server):
    """URL of an empty broker."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture(scope="session")
def s3_server(server_home):
    """Give the running `S3`."""
    server = S3(server_home / "s3.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server):
    """Give a fresh `Bucket`, without notifications until `watch()`."""
    bucket = Bucket.make(s3_server)
    yield bucket
    bucket.remove()


@pytest.fixture
def sqs_queue(s3):
    """URL of the queue that receives the events of the bucket `s3`."""
    return s3.watch()
