"""Log lines of processes."""

import logging

import structlog

from dpiqa.access import new_key
from dpiqa.callbacks.delivery import new_secret
from dpiqa.logs import configure_logging
from dpiqa.settings import load_settings


def test_keys_and_secrets_never_reach_the_log_wherever_they_stand(capsys, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    level = root.level
    (key_id, key), secret = new_key(), new_secret()
    try:
        for as_json in (False, True):
            configure_logging(load_settings(log_json=as_json))
            structlog.get_logger().info("request", query={"key": key}, path=f"/v1/jobs/{key}", secret=secret)
            try:
                raise ValueError(f"wrong: {key} {secret}")
            except ValueError:
                logging.getLogger("some.library").exception("failed with %s", key)
    finally:
        root.setLevel(level)
        structlog.reset_defaults()
    text = capsys.readouterr().err
    assert text.count(f"dpiqa_{key_id}_***") == 8
    assert text.count("whsec_***") == 4
    assert key not in text
    assert secret not in text
