"""The containers' description agrees with the program it starts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text()
MONITORING = (DEPLOY / "monitoring.yaml").read_text()
SERVICES = {
    name: service
    for text in (COMPOSE, MONITORING)
    for name, service in yaml.safe_load(text)["services"].items()
    if "image" in service  # those of monitoring.yaml without one only add a variable
}


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


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_has_no_rights_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "/tmp" in service["tmpfs"]
    assert not {"network_mode", "pid", "ipc", "userns_mode"} & service.keys()
    assert all(not mount.startswith("/") for mount in service.get("volumes", ()))  # no folder of the host, no socket


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_runs_as_root(name):
    service = SERVICES[name]
    if "build" in service:
        stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
        (stage,) = (text for text in stages if re.match(rf"\S+ AS {service['build']['target']}\n", text))
        assert re.findall(r"^USER (\d+)$", stage, re.MULTILINE)[-1] == "10001"
        assert "user" not in service
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])


def test_monitoring_measures_each_process_and_publishes_nothing_but_loopback():
    added = yaml.safe_load(MONITORING)["services"]
    processes = {"listener", "student", "teacher", "student-gpu", "teacher-gpu"}
    assert processes | {"prometheus", "grafana"} == added.keys()
    assert all(added[name] == {"environment": {"DPIQA_METRICS_PORT": "9000"}} for name in processes)
    assert all(port.startswith("127.0.0.1:") for service in added.values() for port in service.get("ports", ()))
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    names = {name for job in scraped for found in job.get("dns_sd_configs", ()) for name in found["names"]}
    assert names == processes
    mounted = [mount.split(":")[0] for service in added.values() for mount in service.get("volumes", ())]
    assert all((DEPLOY / path).exists() for path in mounted if path.startswith("."))
    uids = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert uids[0]["uid"] == "dpiqa-prometheus"
    assert '"uid": "dpiqa-prometheus"' in (DEPLOY / "grafana" / "dashboard.json").read_text()


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
