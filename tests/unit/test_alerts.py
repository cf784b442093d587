"""Alert rules, dashboard, operations guide and /metrics agree: all name the same metrics and runbooks."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dpiqa.api.monitoring import Metrics, Snapshot
from prometheus_client import REGISTRY, generate_latest
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.cli.support.groups import LazyCommand
from dpiqa.doorbell import Queue
from dpiqa.pipeline import metrics
from dpiqa.storage.backlog import Backlog
from dpiqa.types import Stage

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
GUIDE = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
NAME = re.compile(r"\bdpiqa_[a-z_]+\b")
POSTGRES_WORDS = {"max_connections", "default_transaction_read_only", "pg_wal", "pg_repack"}


def families():
    """Names of the metrics that API, workers and listener serve, as in /metrics."""
    backlog = Backlog(
        oldest_seconds=dict.fromkeys(Queue, 1.0),
        overdue_leases=1,
        postponed_buckets=1,
        workers=dict.fromkeys(Stage, 1),
        next_key_expiry_seconds=9.0,
    )
    api = Metrics(
        lambda: Snapshot({"running": 1}, {("student", "queued", ""): 1}, {Queue.LIVE: 1}, backlog, {"x": True})
    )
    assert metrics.IMAGES  # registers those of workers and listener
    shown = generate_latest(api.registry).decode() + generate_latest(REGISTRY).decode()
    found = re.findall(r"^# TYPE (dpiqa_\w+) (\w+)$", shown, re.MULTILINE)
    return {name: kind for name, kind in found if not name.endswith("_created")}


def used_in(text):
    """Metrics that an expression or a page names, without the suffixes of histograms."""
    known, names = families(), set()
    for name in NAME.findall(text):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        names.add(base if known.get(base) == "histogram" else name)
    return names


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def documented():
    """Names in the first column of the table of metrics."""
    table = GUIDE.split("## Metrics")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(dpiqa_\w+)`", table, re.MULTILINE))


def test_every_metric_is_documented_and_every_documented_metric_exists():
    assert documented() == set(families())


@pytest.mark.parametrize(
    ("place", "text"),
    [("rules", "\n".join(rule["expr"] for rule in rules())), ("dashboard", "\n".join(queries())), ("guide", GUIDE)],
)
def test_only_metrics_that_exist_are_named(place, text):
    unknown = used_in(text) - set(families())
    assert not unknown, f"{place}: {sorted(unknown)}"


def test_the_dashboard_shows_every_metric():
    through_rules = "dpiqa:items_ended" in "\n".join(queries())
    assert through_rules
    assert set(families()) - used_in("\n".join(queries())) == set()


def test_labels_in_the_rules_have_values_that_exist():
    text = "\n".join(rule["expr"] for rule in rules())
    named = re.findall(r'queue=~?"([^"]+)"', text)
    assert {value for values in named for value in values.split("|")} <= {queue.value for queue in Queue}
    assert set(re.findall(r'stage="([^"]+)"', text)) <= {stage.value for stage in Stage}
    assert set(re.findall(r'part="([^"]+)"', text)) <= {"database", "migrations", "broker"}


def headings(text):
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in re.findall(r"^##+ .*$", text, re.MULTILINE)
    }


def test_each_alert_has_a_runbook_that_names_it():
    for rule in rules():
        if "alert" not in rule:
            continue
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor in headings(GUIDE)) == ("docs/operations.md", True), rule["annotations"]["runbook"]
        section = next(part for part in re.split(r"\n(?=## )", GUIDE) if anchor in headings(part.split("\n")[0]))
        assert f"`{rule['alert']}`" in section, f"{rule['alert']} is not named in its runbook"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_the_guide_names_no_other_alert():
    assert set(re.findall(r"`(Dpiqa[A-Z]\w+)`", GUIDE)) == {rule["alert"] for rule in rules() if "alert" in rule}


def test_each_runbook_says_what_to_look_at_what_to_do_and_what_not():
    section = GUIDE.split("# Runbooks")[1]
    for runbook in re.split(r"\n(?=## )", section)[1:]:
        title = runbook.split("\n")[0]
        for part in ("**Means.**", "**Look.**", "**Do.**", "**Do not.**"):
            assert part in runbook, f"{title}: {part}"


def test_the_commands_and_log_lines_of_the_guide_exist():
    for line in re.findall(r"(?:^\$ |`)dpiqa ([a-z][^`#\n]*)", GUIDE, re.MULTILINE):
        found = get_command(app)
        for word in line.split():
            if re.match("--?[a-z]", word):
                found = found.load() if isinstance(found, LazyCommand) else found
                options = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
                assert word in options, f"dpiqa {line}: {word}"
            elif hasattr(found, "commands"):
                assert word in found.commands, f"dpiqa {line}: {word}"
                found = found.commands[word]
    code = "\n".join(
        path.read_text() for folder in ("dpiqa", "workers", "api") for path in (ROOT / folder).rglob("*.py")
    )
    for name in set(re.findall(r"`([a-z]+_[a-z_]+)`", GUIDE)) - set(families()):
        assert re.search(rf"\b{name}\b", code) or name in POSTGRES_WORDS, name


def promtool(*words):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool on this machine: it is in Debian's package prometheus")
    done = subprocess.run([tool, *words], check=False, capture_output=True, text=True, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules_and_its_configuration():
    promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "--syntax-only", "prometheus.yaml")


def test_the_rules_fire_when_they_should():
    promtool("test", "rules", "alerts_test.yaml")


def test_prometheus_accepts_the_queries_of_the_dashboard(tmp_path):
    groups = [{"name": "panels", "rules": [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(queries())]}]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": groups}))
    promtool("check", "rules", str(tmp_path / "queries.yaml"))
