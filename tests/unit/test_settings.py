import json
import os
import re
import stat
from pathlib import Path

import pytest

from dpiqa.connection_file import connection_path, local_dir, write_connection
from dpiqa.errors import ConfigurationError
from dpiqa.settings import Settings, load_settings, masked
from dpiqa.urls import mask_url, normalise_database_url


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("DPIQA_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def running_stack(tmp_path):
    home = tmp_path / "home"
    local_dir(home).mkdir(parents=True)
    write_connection(
        home,
        {
            "database_url": "postgresql://u:filepw@127.0.0.1:1/file",
            "s3_endpoint_url": "http://127.0.0.1:2",
            "sqs_endpoint_url": "http://127.0.0.1:2",
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local-secret",
            "queue_url": "http://127.0.0.1:2/queue",
            "flower_url": "http://127.0.0.1:3",
        },
    )
    return home


def test_first_source_wins(monkeypatch, tmp_path, running_stack):
    (tmp_path / ".env").write_text("DPIQA_API_PORT=3\nDPIQA_API_HOST=dotenv\nDPIQA_PROFILE=dotenv\n")
    monkeypatch.setenv("DPIQA_API_PORT", "2")
    monkeypatch.setenv("DPIQA_API_HOST", "environment")
    settings = load_settings(api_port=1)
    assert (settings.api_port, settings.api_host, settings.profile) == (1, "environment", "dotenv")
    assert settings.require_database_url() == "postgresql+psycopg://u:filepw@127.0.0.1:1/file"
    assert settings.aws_access_key_id.get_secret_value() == "local"
    assert settings.queue_url == "http://127.0.0.1:2/queue"


@pytest.mark.parametrize("name", ["DPIQA_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_another_s3_server_never_gets_the_local_credentials(monkeypatch, running_stack, name):
    monkeypatch.setenv(name, "http://elsewhere")
    settings = load_settings()
    assert settings.s3_endpoint_url == "http://elsewhere"
    assert settings.aws_access_key_id is None
    assert settings.queue_url is None
    assert settings.database_url is not None


def test_an_empty_endpoint_means_aws_although_the_stack_runs(monkeypatch, running_stack):
    monkeypatch.setenv("DPIQA_S3_ENDPOINT_URL", "")
    settings = load_settings()
    assert settings.s3_endpoint_url is None
    assert settings.aws_access_key_id is None


def test_dpiqa_names_win_over_aws_names(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://aws")
    monkeypatch.setenv("DPIQA_S3_ENDPOINT_URL", "http://ours")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-1")
    settings = load_settings()
    assert settings.s3_endpoint_url == "http://ours"
    assert settings.aws_region == "eu-south-1"
    assert load_settings(s3_endpoint_url="http://argument").s3_endpoint_url == "http://argument"


def test_connection_file_of_a_dead_supervisor_is_ignored(running_stack):
    content = json.loads(connection_path(running_stack).read_text())
    content["supervisor"]["started"] -= 1000  # another process had this id
    connection_path(running_stack).write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=r"no database is configured.*dpiqa local up"):
        load_settings().require_database_url()


def test_connection_file_is_private(running_stack):
    assert stat.S_IMODE(connection_path(running_stack).stat().st_mode) == 0o600


def test_damaged_connection_file_is_ignored(running_stack):
    connection_path(running_stack).write_text("{")
    assert load_settings().database_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("DPIQA_API_PORT", "eighty"), ("DPIQA_DATABASE_URL", "mysql://u:secret@h/d"), ("DPIQA_LEASE_SECONDS", "0")],
)
def test_a_wrong_value_gives_one_line_with_the_variable_and_without_secrets(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    text = str(caught.value)
    assert name in text
    assert "\n" not in text
    assert "secret" not in text
    assert caught.value.hint


def test_missing_parts_name_their_hint():
    settings = load_settings()
    for require, name in [
        (settings.require_database_url, "DPIQA_DATABASE_URL"),
        (settings.require_broker_url, "DPIQA_BROKER_URL"),
        (settings.require_queue_url, "DPIQA_QUEUE_URL"),
    ]:
        with pytest.raises(ConfigurationError, match=name):
            require()


def test_masked_hides_every_secret():
    settings = load_settings(
        database_url="postgresql://u:pw1@h/d?password=pw2",
        broker_url="redis://:pw3@h:1/0",
        api_key="pw4",
        aws_secret_access_key="pw5",
    )
    text = json.dumps(masked(settings))
    for secret in ("pw1", "pw2", "pw3", "pw4", "pw5"):
        assert secret not in text
        assert secret not in repr(settings)
    assert masked(settings)["database_url"] == "postgresql+psycopg://u:***@h/d?password=***"
    assert masked(settings)["broker_url"] == "redis://:***@h:1/0"


def test_api_url_follows_host_and_port():
    assert load_settings(api_port=9).api_url == "http://127.0.0.1:9"
    assert load_settings(api_host="0.0.0.0", api_port=9).api_url == "http://127.0.0.1:9"
    assert load_settings(api_url="", api_port=9).api_url == "http://127.0.0.1:9"
    assert load_settings(api_url="https://iqa.example").api_url == "https://iqa.example"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_database_url_schemes(scheme):
    assert normalise_database_url(f"{scheme}://u:p@h/d?a=b") == "postgresql+psycopg://u:p@h/d?a=b"


def test_mask_url_keeps_what_is_not_secret():
    assert mask_url("redis://h:1/0") == "redis://h:1/0"
    assert mask_url("postgresql://u@h/d?sslmode=require") == "postgresql://u@h/d?sslmode=require"
    assert mask_url("postgresql://u:a:b@c@h/d") == "postgresql://u:***@h/d"


def test_every_variable_that_is_named_anywhere_is_a_setting():
    root = Path(__file__).parents[2]
    folders = ("dpiqa", "workers", "api", "deploy", "docs")
    files = [
        path for folder in folders for path in (root / folder).rglob("*") if path.suffix in {".py", ".md", ".yaml"}
    ]
    names = {name for path in files for name in re.findall(r"DPIQA_[A-Z][A-Z_0-9]*", path.read_text("utf-8"))}
    assert len(names) > 20
    assert names <= {f"DPIQA_{name.upper()}" for name in Settings.model_fields}


def test_every_setting_is_described():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
