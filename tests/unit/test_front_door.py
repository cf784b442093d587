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


_SCORE_ONE = "import sys, dpiqa; (row,) = dpiqa.score(sys.argv[1], model='brightness'); assert row.score is not None;"


def _run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_it_prints_nothing(photos):
    log_lines = "import structlog; log = structlog.get_logger('dpiqa.x'); log.info('model_ready');"
    done = _run(_SCORE_ONE + log_lines, photos / "dark.png")
    assert (done.stdout, done.stderr) == ("", "")


def test_its_warnings_reach_the_loggers_of_the_standard_library(photos):
    warn = "import structlog; structlog.get_logger().warning('batch_shrunk', max_batch=2)"
    done = _run(_SCORE_ONE + warn, photos / "dark.png")
    assert (done.stdout, done.stderr) == ("", "event='batch_shrunk' max_batch=2\n")
    set_up = "import logging; logging.basicConfig(level='INFO', format='%(name)s %(levelname)s %(message)s');"
    done = _run(set_up + _SCORE_ONE + warn, photos / "dark.png")
    assert done.stdout == ""
    assert "__main__ WARNING event='batch_shrunk' max_batch=2" in done.stderr


def test_a_program_that_configured_structlog_keeps_its_configuration(photos):
    set_up = "import structlog; structlog.configure(processors=[structlog.processors.JSONRenderer()]);"
    done = _run(set_up + _SCORE_ONE + "structlog.get_logger().info('mine')", photos / "dark.png")
    assert done.stdout.endswith('{"event": "mine"}\n')


def test_importing_it_needs_nothing_but_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import dpiqa;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "foreign = new - {'dpiqa'} - sys.stdlib_module_names; sys.exit(f'imported: {foreign}' if foreign else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
