"""The promises of the README: each is held to account by tests that exist, and names the defaults."""

import ast
import re
from pathlib import Path

import pytest

from dpiqa.settings import MIB, Settings

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "README.md").read_text().split("## What it promises")[1].split("\n## ")[0]
PROMISES = {int(number): text for number, text in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^$)", SECTION, re.M | re.S)}
ROWS = {int(number): row for number, row in re.findall(r"^\| (\d+) \| (.*) \|$", SECTION, re.MULTILINE)}
NAMED = [(number, *found) for number, row in ROWS.items() for found in re.findall(r"\[`(\w+)`\]\(([^)]+)\)", row)]


def test_each_promise_has_its_tests():
    assert len(PROMISES) >= 9
    assert PROMISES.keys() == ROWS.keys() == {number for number, _, _ in NAMED}


@pytest.mark.parametrize(("number", "test", "path"), NAMED, ids=str)
def test_a_named_test_exists_and_is_not_skipped(number, test, path):
    functions = [node for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
    (function,) = [node for node in functions if node.name == test]
    marks = " ".join(ast.unparse(mark) for mark in function.decorator_list)
    assert "skip" not in marks
    assert "xfail" not in marks


@pytest.mark.parametrize(
    ("number", "phrase"),
    [
        (5, "lease of {lease_seconds:.0f} s"),
        (5, "a sweep every {sweep_seconds:.0f} s"),
        (5, "after {rering_seconds:.0f} s if its queue is empty"),
        (5, "otherwise after {ten_times_rering:.0f} s"),
        (6, "kills {max_crashes} workers"),
        (7, "Nothing above {max_image_mib} MiB"),
        (7, "{max_megapixels} megapixels"),
        (7, "{max_image_side:,} pixels a side"),
        (7, "{decode_seconds:.0f} s of processor time"),
        (7, "{decode_memory_mib} MiB to its process"),
    ],
)
def test_the_numbers_are_the_defaults(number, phrase):
    values = {name: field.default for name, field in Settings.model_fields.items()}
    values |= {
        "ten_times_rering": 10 * values["rering_seconds"],
        "max_crashes": {3: "three"}[values["max_crashes"]],
        "max_image_mib": values["max_image_bytes"] // MIB,
        "max_megapixels": values["max_image_pixels"] // 10**6,
        "decode_memory_mib": values["decode_memory_bytes"] // MIB,
    }
    assert phrase.format(**values) in " ".join(PROMISES[number].split())
