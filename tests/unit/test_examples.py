"""The examples: programs run where their packages are installed, and the notebook prints what is kept in it."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.photos import png

import dpiqa

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = {"daft_column.py": "daft", "ray_data.py": "ray"}  #: and the package that each needs
NOTEBOOK = json.loads((EXAMPLES / "first_scores.ipynb").read_text("utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
NUMBER = re.compile(r"\d+\.\d+|\d+")


def code_of(path):
    """The code of a program, or of the notebook's cells."""
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in CELLS)
    return path.read_text("utf-8")


@pytest.mark.parametrize("name", [*PROGRAMS, "first_scores.ipynb"])
def test_an_example_uses_names_that_exist(name):
    nodes = list(ast.walk(ast.parse(code_of(EXAMPLES / name))))
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dpiqa"
    }
    assert used
    assert used <= set(dpiqa.__all__)


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {*PROGRAMS, "first_scores.ipynb"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_the_scores_of_a_folder(name, tmp_path):
    if importlib.util.find_spec(PROGRAMS[name]) is None:
        pytest.skip(f"no {PROGRAMS[name]}: it belongs to no extra, and is large")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for level in (0.75, 0.25):
        (photographs / f"{level}.png").write_bytes(png(level))
    (photographs / "broken.png").write_bytes(b"not a picture")
    env = os.environ | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    done = run([str(EXAMPLES / name), str(photographs), "brightness"], env)
    rows = [line.split() for line in done.splitlines()]
    assert [float(row[0]) for row in rows[:2]] == pytest.approx([0.25, 0.75], abs=0.01)
    assert [Path(row[1]).name for row in rows] == ["0.25.png", "0.75.png", "broken.png"]
    assert rows[2][0] == "nan"


@pytest.mark.heavy
def test_the_notebook_prints_what_is_kept_in_it():
    pytest.importorskip("skimage", reason="its photographs are those of scikit-image: the extra `demo`")
    kept = "".join(text for cell in CELLS for output in cell["outputs"] for text in output["text"])
    printed = run(["-c", code_of(EXAMPLES / "first_scores.ipynb")], os.environ)
    assert NUMBER.sub("_", printed) == NUMBER.sub("_", kept)
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, kept)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02, rel=0.05)


def run(arguments, env):
    done = subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
