"""The application on a real database and a real broker."""

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient

from dpiqa.settings import load_settings


@pytest.fixture
def settings(database_url, broker_url):
    return load_settings(
        database_url=database_url,
        broker_url=broker_url,
        profile="smoke",
        api_hosts="testserver",
        verify_events=False,  # most tests have no store
    )


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False, follow_redirects=False) as opened:
        yield opened
