"""Pinned versions satisfy the requirements, and what could not be audited does not pass silently."""

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SPEC = importlib.util.spec_from_file_location("supply_chain", ROOT / ".ci" / "supply_chain.py")
supply_chain = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(supply_chain)


def required():
    """Requirements of the base install and of all extras that the extra `all` includes."""
    extras, waiting, found = PROJECT["optional-dependencies"], ["all"], list(PROJECT["dependencies"])
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in extras[name]:
            requirement = Requirement(text)
            if requirement.name == "dpiqa":
                waiting += requirement.extras
            else:
                found.append(text)
    return sorted(set(found))


@pytest.mark.parametrize("text", required())
def test_each_requirement_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    pin = supply_chain.pinned()[canonicalize_name(requirement.name)]
    (only,) = pin.specifier
    assert only.operator == "=="
    assert requirement.specifier.contains(only.version, prereleases=True), f"{pin}: run `make constraints`"


def test_the_containers_are_built_with_the_pinned_versions():
    installs = re.findall(r"pip install (.*)", (ROOT / "deploy" / "Dockerfile").read_text())
    assert len(installs) == 4
    assert all("--constraint /constraints.txt" in line for line in installs)


def answer(monkeypatch, stdout, stderr="", code=0):
    done = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(supply_chain, "tool", lambda *_: done)


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(supply_chain, "BUILD", tmp_path)
    monkeypatch.delenv("CI_REQUIRE_AUDIT", raising=False)
    return tmp_path


def test_an_audit_without_a_network_says_so_now_and_at_the_end(monkeypatch, capsys, build):
    answer(monkeypatch, "", "ERROR: ConnectionError: pypi.org", 1)
    assert supply_chain.audit() == 0
    line = capsys.readouterr().out
    assert line.startswith("NOT AUDITED: ")
    assert "ConnectionError" in line
    assert (build / "not-done.txt").read_text() == line


def test_an_audit_that_is_required_fails_without_a_network(monkeypatch, capsys):
    answer(monkeypatch, "", "ERROR: ConnectionError: pypi.org", 1)
    monkeypatch.setenv("CI_REQUIRE_AUDIT", "1")
    assert supply_chain.audit() == 1
    assert "NOT AUDITED" in capsys.readouterr().out


def test_a_version_that_the_advisory_database_does_not_know_was_not_audited(monkeypatch, capsys):
    """`pip-audit` itself exits with 0 then, and says nothing."""
    answer(monkeypatch, json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]}))
    assert supply_chain.audit() == 0
    assert "1 of 1 versions are not known there: not found" in capsys.readouterr().out


def test_a_known_vulnerability_fails(monkeypatch, capsys):
    found = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    dependencies = [{"name": "a", "version": "1.0", "vulns": [found]}, {"name": "b", "skip_reason": "not found"}]
    answer(monkeypatch, json.dumps({"dependencies": dependencies}), code=1)
    assert supply_chain.audit() == 1
    assert capsys.readouterr().out == "a 1.0: PYSEC-1, fixed in 2.0\n"


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("GPL-2.0-only OR MIT", True),
        ("MIT AND GPL-2.0-only", False),
        ("GNU Affero General Public License v3", False),
        ("UNKNOWN", False),
        ("Apache Software License; BSD License", True),
    ],
)
def test_licences(licence, allowed):
    assert supply_chain.is_allowed(licence) is allowed


def test_the_bill_of_materials_names_every_pinned_version(tmp_path, monkeypatch):
    pytest.importorskip("cyclonedx_py", reason="it is in the dependency group dev")
    monkeypatch.setattr(supply_chain, "BUILD", tmp_path)
    assert supply_chain.sbom() == 0
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {(row["name"], row["version"]) for row in bill["components"]} == {
        (pin.name, next(iter(pin.specifier)).version) for pin in supply_chain.pinned().values()
    }
