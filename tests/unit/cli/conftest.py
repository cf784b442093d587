import pytest
from support import documents
from typer.testing import CliRunner

from dpiqa.cli.main import app


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings, no stack, no colours of the developer's."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    documents.watch(monkeypatch)


@pytest.fixture
def run():
    """Run a command line in this process: `run("models", "list").exit_code`."""
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))
