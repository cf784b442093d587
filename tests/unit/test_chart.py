"""The Helm chart: rendered by Helm, checked against the schemas of Kubernetes, and as strict as the containers."""

import json
from pathlib import Path

import pytest
import yaml

from dpiqa.settings import Settings

helm = pytest.importorskip("helm_python", reason="it is in the dependency group charts")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="it is in the dependency group charts")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALL = {
    "keda": {"enabled": True},
    "listener": {"queueUrl": "https://sqs.eu-central-1.amazonaws.com/111122223333/photos-events"},
    "models": {"existingClaim": "models"},
    "monitoring": {"podMonitors": True, "rules": True, "dashboard": True},
    "profiles": {"careful": 'name = "careful"\nversion = 1\n'},
    "settings": {"DPIQA_MAX_WAITING_ITEMS": 50_000_000, "DPIQA_RAW_PREVIEWS": True},
    "workers": {
        "student-gpu": {
            "stage": "student",
            "target": "cuda",
            "replicas": 1,
            "minReplicas": 0,
            "maxReplicas": 4,
            "itemsPerReplica": 1_000_000,
            "resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}},
        }
    },
}
BY_METRICS = {"keda": {"enabled": True, "source": "prometheus", "prometheusAddress": "http://prometheus:9090"}}
OF_OTHERS = {"PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}  # no schemas of these at hand


def rendered(values):
    """Documents of the chart by (kind, name)."""
    with helm.Chart.load(str(DEPLOY / "helm")) as chart:
        files = chart.render(values, name="dpiqa", namespace="production")
    documents = [one for path, text in files.items() if path.endswith(".yaml") for one in yaml.safe_load_all(text)]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents if one}


def pods(documents):
    return {
        name: one["spec"]["template"]["spec"]
        for (kind, name), one in documents.items()
        if kind in {"Deployment", "Job"}
    }


def test_helm_has_nothing_to_say_but_that_there_is_no_icon():
    found = helm.lint(str(DEPLOY / "helm"))
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.27", "1.34"])
@pytest.mark.parametrize("values", [{}, ALL, BY_METRICS], ids=["defaults", "all", "by metrics"])
def test_kubernetes_knows_every_field(values, version):
    documents = rendered(values)
    known = [one for (kind, _), one in documents.items() if kind not in OF_OTHERS]
    assert len(known) > 8
    for one in known:
        kubernetes_validate.validate(one, version, strict=True)


def test_no_pod_has_rights_that_it_does_not_need():
    for name, pod in pods(rendered(ALL)).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, "a Service of this name would set DPIQA_API_PORT"
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert all("hostPath" not in volume for volume in pod["volumes"])


def test_passwords_come_from_the_secret_and_settings_are_written_out():
    known = {f"DPIQA_{name.upper()}" for name in Settings.model_fields}
    for name, pod in pods(rendered(ALL)).items():
        environment = {row["name"]: row for row in pod["containers"][0]["env"]}
        assert {variable for variable in environment if variable.startswith("DPIQA_")} <= known, name
        assert environment["DPIQA_DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "dpiqa"
        if name != "dpiqa-db-upgrade":
            assert environment["DPIQA_MAX_WAITING_ITEMS"]["value"] == "50000000"
            assert environment["DPIQA_RAW_PREVIEWS"]["value"] == "true"


def test_a_worker_of_a_gpu_runs_the_image_and_the_device_of_its_own():
    documents = rendered(ALL)
    worker = documents["Deployment", "dpiqa-student-gpu"]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "dpiqa:0.1.0-cuda"
    assert container["args"] == ["worker", "student"]
    assert {"name": "DPIQA_DEVICE", "value": "cuda"} in container["env"]
    assert worker["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert "replicas" not in worker["spec"], "KEDA decides"
    assert (
        documents["ScaledObject", "dpiqa-student-gpu"]["spec"]["triggers"][0]["metadata"]["targetQueryValue"]
        == "1000000"
    )


def test_a_disruption_budget_selects_the_pods_of_one_component():
    documents = rendered(ALL)
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for (kind, name), one in documents.items()
        if kind == "Deployment"
    }
    budgets = [one for (kind, _), one in documents.items() if kind == "PodDisruptionBudget"]
    assert len(budgets) == 4
    for budget in budgets:
        selector = budget["spec"]["selector"]["matchLabels"].items()
        assert len([name for name, of_pod in labels.items() if selector <= of_pod.items()]) == 1


def test_alerts_and_dashboard_are_those_of_the_containers():
    documents = rendered(ALL)
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    assert documents["PrometheusRule", "dpiqa"]["spec"]["groups"] == alerts["groups"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    assert json.loads(documents["ConfigMap", "dpiqa-dashboard"]["data"]["dpiqa.json"]) == dashboard
    scraped = {
        one["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["replacement"]
        for (kind, _), one in documents.items()
        if kind == "PodMonitor"
    }
    assert scraped == {"dpiqa-api", "dpiqa-worker", "dpiqa-listener"}


def test_without_a_queue_there_is_no_listener():
    assert ("Deployment", "dpiqa-listener") not in rendered({})


@pytest.mark.parametrize(
    "values",
    [{"worker": {}}, {"settings": {"dpiqa_device": "cpu"}}, {"workers": {"a": {"stage": "both"}}}],
    ids=["unknown key", "no variable", "no stage"],
)
def test_wrong_values_are_refused(values):
    with helm.Chart.load(str(DEPLOY / "helm")) as chart, pytest.raises(helm.HelmError):
        chart.validate_schema(values)
