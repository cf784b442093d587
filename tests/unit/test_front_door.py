"""`dpiqa.score`: image files in, rows out."""

import subprocess
import sys

import pytest
from PIL import Image

import dpiqa
from dpiqa.errors import NotFound
from dpiqa.types import ItemState, Reason


@pytest.fixture
def photos(tmp_path):
    for name, grey in (("dark.png", 20), ("bright.png", 200)):
        Image.new("RGB", (80, 60), (grey, grey, grey)).save(tmp_path / name)
    return tmp_path


def test_rows_come_in_the_order_of_the_paths_and_a_bad_file_harms_only_itself(photos):
    (photos / "text.jpg").write_text("not an image")
    paths = [photos / "bright.png", photos / "text.jpg", str(photos / "dark.png"), photos / "missing.jpg"]
    rows = dpiqa.score(paths, model="brightness")
    assert [row.ref.key for row in rows] == [str(path) for path in paths]
    assert [row.state for row in rows] == [
        ItemState.SCORED,
        ItemState.REJECTED,
        ItemState.SCORED,
        ItemState.DELETED,
    ]
    assert rows[0].score > rows[2].score
    assert rows[1].score is None
    assert rows[3].reason is Reason.OBJECT_DELETED


def test_one_path_counts_as_a_list_of_one(photos):
    (row,) = dpiqa.score(str(photos / "dark.png"), model="brightness")
    assert row.model == "brightness"


def test_a_model_that_does_not_exist_is_an_error(photos):
    with pytest.raises(NotFound, match="no-such-model"):
        dpiqa.score(photos / "dark.png", model="no-such-model")


def test_importing_it_needs_nothing_but_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import dpiqa;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "foreign = new - {'dpiqa'} - sys.stdlib_module_names; sys.exit(f'imported: {foreign}' if foreign else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
