import pytest
from support.proxy import Proxy
from support.site import make_site
from support.system import System


@pytest.fixture
def make_system(tmp_path, database_url, broker_url, s3, sqs_queue):
    """Give a function that makes the test's `System`; its arguments are settings."""
    systems = []

    def make(**settings):
        url = settings.pop("broker_url", broker_url)
        systems.append(System(tmp_path, database_url, url, s3, **settings))
        return systems[-1]

    yield make
    for system in systems:
        system.kill()


@pytest.fixture
def system(make_system):
    """Give a `System` with quick settings and no process running."""
    return make_system()


@pytest.fixture
def site(make_system, s3, tmp_path):
    """Give the system of `support.site`."""
    return make_site(make_system, s3, tmp_path / "models")


@pytest.fixture
def s3_proxy(s3_server):
    """Give a switch in front of S3: its `url`, `down()`, `hold()`."""
    proxy = Proxy(s3_server.port)
    yield proxy
    proxy.close()
