"""The containers' description agrees with the program it starts."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text()
MONITORING = (DEPLOY / "monitoring.yaml").read_text()
WORKER = (DEPLOY / "worker.yaml").read_text()
SERVICES = {
    f"{file}: {name}": service
    for file, text in (("compose", COMPOSE), ("monitoring", MONITORING), ("worker", WORKER))
    for name, service in yaml.safe_load(text)["services"].items()
}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def commands() -> list[list[str]]:
    """The command of every service and unit that runs dpiqa, without a stage that a unit takes from its name."""
    containers = [service["command"] for service in SERVICES.values() if "build" in service]
    starts = [re.search(r"^ExecStart=/opt/dpiqa/bin/dpiqa (.*)$", unit.read_text(), re.MULTILINE) for unit in UNITS]
    return containers + [start[1].replace(" ${STAGE}", "").split() for start in starts]


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
    files = [path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".example", ".service", ".tpl"}]
    texts = [path.read_text() for path in [DEPLOY / "Dockerfile", *files]]
    named = set(re.findall(r"\b(DPIQA_[A-Z_]+)(?:: |=)", "\n".join(texts)))
    named |= set(re.findall(r"- name: (DPIQA_[A-Z_]+)$", "\n".join(texts), re.MULTILINE))
    known = {f"DPIQA_{name.upper()}" for name in Settings.model_fields}
    assert named
    assert named <= known, f"not settings: {sorted(named - known)}"


def test_the_build_in_a_container_has_the_files_that_the_wheel_needs():
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    there = {word for line in copied for word in line.split()}
    tool = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = [file for names in tool["data-files"].values() for file in names]
    assert {str(Path(file).parent) for file in files} <= there
    assert {"dpiqa", "workers", "api", "migrations", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= there
    manifest = (DEPLOY.parent / "MANIFEST.in").read_text()
    assert all(f"include {file}\n" in manifest for file in files)  # setuptools leaves them out of the source


def test_nothing_but_loopback_is_published_by_default():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 8
    assert all(re.match(r"(\$\{[A-Z_]+:-)?127\.0\.0\.1:", port) for port in published)


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
    assert service["mem_limit"]


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


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_that_runs_on_says_whether_it_is_well(name):
    service = SERVICES[name]
    assert ("healthcheck" in service) == (service["restart"] == "unless-stopped")
    if ":9000/" in str(service.get("healthcheck")):
        assert service["environment"]["DPIQA_METRICS_PORT"] == "9000"


def test_workers_of_further_machines_differ_only_in_where_the_servers_are():
    here, there = (yaml.safe_load(text)["services"] for text in (COMPOSE, WORKER))
    assert there.keys() == {"student", "teacher", "student-gpu", "teacher-gpu"}
    for name, service in there.items():
        assert service["environment"]["DPIQA_DATABASE_URL"].startswith("${DPIQA_DATABASE_URL:?")
        assert service["environment"]["DPIQA_BROKER_URL"].startswith("${DPIQA_BROKER_URL:?")
        # What only API and listener read is not there; all else is.
        missing = here[name]["environment"].keys() - service["environment"].keys()
        assert missing == {
            "AWS_ENDPOINT_URL_SQS",
            "DPIQA_API_URL",
            "DPIQA_CALLBACK_HOSTS",
            "DPIQA_CALLBACK_SECRET",
            "DPIQA_PROFILE",
            "DPIQA_QUEUE_URL",
        }
        same = {"image", "build", "command", "volumes", "healthcheck", "stop_grace_period", "profiles", "mem_limit"}
        assert {key: service[key] for key in same} == {key: here[name][key] for key in same}


def test_monitoring_measures_each_process():
    added = yaml.safe_load(MONITORING)["services"]
    processes = {"listener", "student", "teacher", "student-gpu", "teacher-gpu"}
    assert added.keys() == {"prometheus", "grafana"}
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
@pytest.mark.parametrize(
    ("files", "example"),
    [
        (["compose.yaml"], "env.example"),
        (["compose.yaml", "monitoring.yaml", "publish.yaml"], "env.example"),
        (["worker.yaml"], "worker.env.example"),
    ],
    ids=["alone", "with the others", "workers"],
)
def test_compose_accepts_it(tmp_path, profile, service, files, example):
    env = tmp_path / "env"
    text = re.sub(r"=$", "=x", (DEPLOY / example).read_text(), flags=re.MULTILINE) + "PUBLISH_ADDRESS=10.0.0.5\n"
    env.write_text(text)
    named = [word for file in files for word in ("-f", str(DEPLOY / file))]
    client = [*compose_client(), *named, "--env-file", str(env), "--profile", profile]
    done = subprocess.run([*client, "config"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"\n  {service}:\n" in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(tmp_path, unit):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    file = tmp_path / unit.name.replace("@", "@student")
    file.write_text(unit.read_text().replace("/opt/dpiqa/bin/dpiqa", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_runs_without_rights_and_is_bounded(unit):
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert settings["User"] == "dpiqa"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert settings["MemoryMax"]
    assert settings["RestartPreventExitStatus"] == "78"
    assert "DPIQA_MODELS_DIR=/var/lib/dpiqa/models" in unit.read_text()  # which must exist
    assert "dpiqa/models" in settings["StateDirectory"].split()
