"""The base install is the client and the library; whatever else is imported belongs to an extra."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dpiqa import extras
from dpiqa.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
#: Distributions whose module has another name, and modules that come with another distribution.
DISTRIBUTION_OF_MODULE = {
    "botocore": "boto3",
    "cv2": "opencv-python-headless",
    "kombu": "celery",
    "PIL": "pillow",
    "pillow_jxl": "pillow-jxl-plugin",
    "pydantic_core": "pydantic",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "starlette": "fastapi",
    "werkzeug": "flask",
}

FOR_TYPES_ONLY = {"mypy_boto3_s3", "mypy_boto3_sqs"}


def distribution_of(module: str) -> str:
    return DISTRIBUTION_OF_MODULE.get(module, module.replace("_", "-"))


def distributions(requirements: list[str]) -> set[str]:
    """Names of the distributions, those of the extras of ours included."""
    names = set()
    for requirement in requirements:
        name, _, extra_names = re.match(r"([\w.-]+)(\[([\w,-]+)\])?", requirement).groups()
        if name == "dpiqa":
            for extra in extra_names.split(","):
                names |= distributions(PROJECT["optional-dependencies"][extra])
        else:
            names.add(name.lower())
    return names


def installed_for(requirements: list[str]) -> set[str]:
    """Names of the distributions that pip installs for the requirements, theirs included."""
    names, left = set(), [Requirement(requirement) for requirement in requirements]
    seen = set()
    while left:
        requirement = left.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        names.add(canonicalize_name(requirement.name))
        try:
            needed = [Requirement(text) for text in requires(requirement.name) or []]
        except PackageNotFoundError:  # of another platform
            continue
        for one in needed:
            chosen = requirement.extras or {""}
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in chosen):
                left.append(one)
    return names


def imported_modules(*folders: str) -> dict[str, str]:
    """Third-party top-level modules that files of the folders import, with one file that does."""
    modules = {}
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module]
                else:
                    continue
                modules |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    known = {"dpiqa", *FOR_TYPES_ONLY, *sys.stdlib_module_names}
    return {name: file for name, file in modules.items() if name not in known}


def test_every_import_is_of_the_base_install_or_of_a_known_extra():
    base = distributions(PROJECT["dependencies"])
    unknown = {
        module: file
        for module, file in imported_modules("dpiqa", "api", "workers", "migrations").items()
        if distribution_of(module) not in base and module not in extras.EXTRA_OF_MODULE
    }
    assert not unknown, "add them to pyproject.toml, and to dpiqa.extras unless they are base dependencies"


def test_what_tests_import_is_installed_by_make_test():
    """A module that only the group `dev` brings is missing on a fresh machine, where the README says `make test`."""
    installed = installed_for(["dpiqa[all]", *PYPROJECT["dependency-groups"]["test"]])
    distributions_of = packages_distributions()
    own = {"conftest", "support", "unit", "synthetic"}
    unknown = {
        module: file
        for module, file in imported_modules("tests").items()
        if module not in own and not installed & {canonicalize_name(name) for name in distributions_of.get(module, [])}
    }
    assert not unknown, "add them to the group test in pyproject.toml"


@pytest.mark.parametrize(("module", "extra"), extras.EXTRA_OF_MODULE.items())
def test_each_extra_installs_its_modules_and_the_base_install_does_not(module, extra):
    assert distribution_of(module) in distributions(PROJECT["optional-dependencies"][extra])
    assert distribution_of(module) not in distributions(PROJECT["dependencies"])


def test_a_missing_library_is_one_line_that_names_the_install():
    with pytest.raises(ConfigurationError) as caught, extras.required_for("dpiqa api"):
        raise ModuleNotFoundError("No module named 'uvicorn.config'", name="uvicorn.config")
    assert str(caught.value) == "dpiqa api needs uvicorn, which is not installed (pip install 'dpiqa[api]')"


def test_a_module_can_be_required_without_importing_it(monkeypatch):
    extras.require("sqlite3", "anything")
    monkeypatch.setitem(sys.modules, "flower", None)
    with pytest.raises(ConfigurationError) as caught:
        extras.require("flower", "dpiqa flower")
    assert caught.value.hint == "pip install 'dpiqa[worker]'"


def test_the_caller_may_name_a_larger_extra():
    error = extras.missing_library(ModuleNotFoundError(name="torch"), "training", extra="train")
    assert error.hint == "pip install 'dpiqa[train]'"


def test_a_library_that_is_installed_but_broken_says_why():
    error = extras.missing_library(ImportError("libcudart.so.12: cannot open shared object file"), "scoring", "models")
    assert "libcudart" in error.message


def test_a_missing_module_of_ours_is_a_bug():
    with pytest.raises(ModuleNotFoundError), extras.required_for("anything"):
        raise ModuleNotFoundError(name="dpiqa.nowhere")
