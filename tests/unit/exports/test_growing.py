"""Files that grow: what a killed process leaves, and how the next one goes on with it."""

import csv
import json
import os
from datetime import UTC, datetime

import pyarrow.parquet
import pytest

from dpiqa.errors import InvalidRequest
from dpiqa.exports.formats import Format
from dpiqa.exports.growing import GrowingFile, read_rows, stamp, unfinished_path
from dpiqa.exports.schemas import FILES, OBJECTS
from dpiqa.exports.validation import validate

AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


def row(path, score=0.5, *, size=10, scorer="m:1", **more):
    failed = score is None
    return {
        "path": path,
        "state": "rejected" if failed else "scored",
        "score": score,
        "scorer_id": None if failed else scorer,
        "reason": "truncated" if failed else None,
        "size": size,
        "modified": AT,
        **more,
    }


def name(tmp_path, kind):
    return tmp_path / f"scores.{kind}"


def opened(tmp_path, kind, *, resume=True):
    return GrowingFile(name(tmp_path, kind), kind, FILES, resume=resume)


def paths(tmp_path, kind):
    return [found["path"] for found in read_rows(name(tmp_path, kind), kind, FILES)]


@pytest.mark.parametrize("kind", list(Format))
def test_rows_of_several_runs_are_in_one_valid_file(tmp_path, kind):
    with opened(tmp_path, kind, resume=False) as file:
        file.add([row("a.jpg"), row("b.jpg", None)])
        file.add([row("c.jpg")])
        file.finish()
    with opened(tmp_path, kind) as file:
        assert file.scorer_ids() == {"m:1"}
        known = file.find(["a.jpg"])
        assert (known.is_failed, known.fits("", stamp(10, AT)), known.fits("", stamp(11, AT))) == (False, True, False)
        assert file.find(["b.jpg"]).is_failed
        assert file.find(["d.jpg"]) is None
        file.add([row("d.jpg"), row("b.jpg", 0.25), row("a.jpg", 0.75)])
        file.finish()
    assert paths(tmp_path, kind) == ["c.jpg", "d.jpg", "b.jpg", "a.jpg"]
    result = validate(name(tmp_path, kind), "files@1")
    assert (result.n_rows, result.problems) == (4, [])
    assert not unfinished_path(name(tmp_path, kind)).exists()


@pytest.mark.parametrize("kind", list(Format))
def test_a_killed_process_leaves_its_rows(tmp_path, kind):
    with opened(tmp_path, kind, resume=False) as file:
        file.add([row("a.jpg"), row("b.jpg")])  # and no `finish`
    grown = unfinished_path(name(tmp_path, kind)) if kind is Format.PARQUET else name(tmp_path, kind)
    whole = grown.read_bytes()
    for cut in range(1, 40):  # in the middle of its last row
        grown.write_bytes(whole[:-cut])
        with opened(tmp_path, kind) as file:
            assert [file.find([path]) is not None for path in ("a.jpg", "b.jpg")] == [True, False]
            assert file.n_cut > 0
            file.add([row("b.jpg", 0.25)])
            file.finish()
        assert paths(tmp_path, kind) == ["a.jpg", "b.jpg"]
        name(tmp_path, kind).unlink()
    grown.write_bytes(whole + b"\0" * 100)  # what a crash of the machine may leave
    with opened(tmp_path, kind) as file:
        assert file.n_cut == 100
        file.finish()
    assert paths(tmp_path, kind) == ["a.jpg", "b.jpg"]


def test_a_csv_that_was_cut_in_its_header_begins_again(tmp_path):
    name(tmp_path, "csv").write_text("")
    with opened(tmp_path, Format.CSV) as file:
        file.add([row("a.jpg")])
    assert paths(tmp_path, Format.CSV) == ["a.jpg"]


ODD = ["=1+1.jpg", "a,b.jpg", 'quo"te.jpg', "two\nlines.jpg", os.fsdecode(b"caf\xe9.jpg"), "'=x.jpg", "tab\t.jpg"]


@pytest.mark.parametrize("kind", list(Format))
def test_odd_names_are_found_again(tmp_path, kind):
    with opened(tmp_path, kind, resume=False) as file:
        file.add([row(path) for path in ODD])
        file.finish()
    with opened(tmp_path, kind) as file:
        assert all(file.find([path]) for path in ODD)
        file.add([row(ODD[0], 0.75)])
        file.finish()
    with opened(tmp_path, kind) as file:
        assert all(file.find([path]) for path in ODD)
        assert len(list(file.rows())) == len(ODD)


def test_objects_are_known_by_their_etag(tmp_path):
    with GrowingFile(tmp_path / "o.jsonl", Format.JSONL, OBJECTS, resume=False) as file:
        file.add([{**row(""), "bucket": "photos", "key": "a.jpg", "etag": "e1"}])
    with GrowingFile(tmp_path / "o.jsonl", Format.JSONL, OBJECTS, resume=True) as file:
        known = file.find(["photos", "a.jpg"])
        assert (known.fits("e1", ""), known.fits("e2", stamp(10, AT)), known.fits("", "")) == (True, False, True)


def test_other_columns_and_a_second_writer_are_refused(tmp_path):
    name(tmp_path, "csv").write_text("image,quality\na,1\n")
    with pytest.raises(InvalidRequest, match="other columns"):
        opened(tmp_path, Format.CSV)
    assert name(tmp_path, "csv").read_text() == "image,quality\na,1\n"
    with opened(tmp_path, Format.JSONL, resume=False) as file:
        file.add([row("a.jpg")])
        with pytest.raises(InvalidRequest, match="another process"):
            opened(tmp_path, Format.JSONL, resume=False)
        file.finish()
    assert paths(tmp_path, Format.JSONL) == ["a.jpg"]
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), name(tmp_path, "parquet"))
    with pytest.raises(InvalidRequest, match="other columns"):
        opened(tmp_path, Format.PARQUET)


def test_csv_and_json_lines_can_be_read_while_they_grow(tmp_path):
    with opened(tmp_path, Format.CSV, resume=False) as table, opened(tmp_path, Format.JSONL, resume=False) as lines:
        for n in range(3):
            table.add([row(f"{n}.jpg")])
            lines.add([row(f"{n}.jpg")])
            with name(tmp_path, "csv").open(newline="") as file:
                assert len(list(csv.DictReader(file))) == n + 1
            assert len([json.loads(line) for line in name(tmp_path, "jsonl").open()]) == n + 1
