"""The containers' description agrees with the program it starts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text()


def commands() -> list[list[str]]:
    """The `command:` of every service that runs dpiqa."""
    found = re.findall(r"^    command: \[(.*)\]$", COMPOSE, re.MULTILINE)
    return [words for line in found if "valkey-server" not in (words := re.findall(r'"([^"]+)"', line))]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_service_runs_a_command_that_exists(words):
    command = get_command(app)
    for word in words:
        subcommands = getattr(command, "commands", None)
        if subcommands is None:  # an argument such as `student`
            return
        assert word in subcommands
        command = subcommands[word]


def test_every_variable_named_is_a_setting():
    named = set(re.findall(r"\b(DPIQA_[A-Z_]+):", COMPOSE)) | set(
        re.findall(r"\b(DPIQA_[A-Z_]+)=", (DEPLOY / "Dockerfile").read_text() + (DEPLOY / "env.example").read_text())
    )
    known = {f"DPIQA_{name.upper()}" for name in Settings.model_fields}
    assert named
    assert named <= known, f"not settings: {sorted(named - known)}"


def test_nothing_but_loopback_is_published_by_default():
    published = re.findall(r"ports: \[\"(.*)\"\]", COMPOSE)
    assert len(published) == 2
    assert all(port.startswith(("127.0.0.1:", "${API_BIND:-127.0.0.1:")) for port in published)


def compose_client() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0
    ):
        return ["docker", "compose"]
    pytest.skip("no compose client on this machine")


@pytest.mark.parametrize(("profile", "service"), [("cpu", "teacher"), ("gpu", "teacher-gpu")])
def test_compose_accepts_it(tmp_path, profile, service):
    env = tmp_path / "env"
    env.write_text(re.sub(r"=$", "=x", (DEPLOY / "env.example").read_text(), flags=re.MULTILINE))
    client = [*compose_client(), "-f", str(DEPLOY / "compose.yaml"), "--env-file", str(env), "--profile", profile]
    done = subprocess.run([*client, "config"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"\n  {service}:\n" in done.stdout
