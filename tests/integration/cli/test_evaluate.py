"""`dpiqa evaluate` goes through to the figures."""

import json

import pytest
from support.photos import png


@pytest.fixture
def labels(tmp_path):
    lines = ["image,mos,split,near_duplicate_group"]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number / 10))
        lines.append(f"{number}.png,{number / 10},{'val' if number else 'train'},")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.filterwarnings("ignore:An input array is constant")  # five images make a poor bootstrap
def test_figures(run, labels):
    pytest.importorskip("torch")
    shown = run("evaluate", "brightness", "--labels", labels, "--json")
    assert shown.exit_code == 0, shown.stderr
    figures = json.loads(shown.stdout)
    assert (figures["srcc"], figures["failures"]) == (pytest.approx(1), 0)
    assert "srcc" in run("evaluate", "brightness", "--labels", labels).stdout


def test_mistakes_are_one_line(run, labels):
    shown = run("evaluate", "nope", "--labels", labels)
    assert (shown.exit_code, shown.stderr.count("\n")) == (4, 1)
    labels.write_text("a,b\n1,2\n")
    shown = run("evaluate", "brightness", "--labels", labels)
    assert (shown.exit_code, shown.stderr.count("\n")) == (2, 1), shown.stderr
