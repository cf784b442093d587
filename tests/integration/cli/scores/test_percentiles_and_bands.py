"""Percentiles and words: from the reference in a card to `dpiqa score` and, through the ledger, `dpiqa scores`."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from support.onnx_files import green_mean
from support.photos import png

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.models.cards import read_card, sha256_of
from dpiqa.percentiles import Reference
from dpiqa.routing import decide
from dpiqa.storage.items import Scored
from dpiqa.storage.results import record
from dpiqa.types import ImageRef, ModelKind, Stage

LEVELS = range(0, 101, 4)  #: brightness of the population's pictures, in percent
EVEN = Reference(
    population="every brightness",
    n=1000,
    scorer_id=BRIGHTNESS.scorer_id,
    command="none",
    quantiles=tuple(n / 100 for n in range(101)),
)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with a model of one's own, `own`, whose score rises with brightness."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "own.onnx").write_bytes(green_mean(16))
    card = ModelCard(
        name="own",
        kind=ModelKind.ONNX,
        weights="own.onnx",
        sha256=sha256_of(folder / "own.onnx"),
        preprocessing=Preprocessing(width=16, height=16),
        licence="none",
    )
    (folder / "own.json").write_text(card.model_dump_json())
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def labels(tmp_path):
    """A population: pictures of every brightness as `val`, and a black one as `train`, which must not count."""
    folder = tmp_path / "population"
    folder.mkdir()
    lines = ["image,mos,split"]
    for level in LEVELS:
        (folder / f"{level}.png").write_bytes(png(level / 100))
        lines.append(f"{level}.png,0.5,val")
    (folder / "black.png").write_bytes(png(0))
    lines.append("black.png,0.5,train")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, level in {"black": 0, "dark": 0.2, "grey": 0.5, "light": 0.8, "white": 1}.items():
        (folder / f"{name}.png").write_bytes(png(level))
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def make(run, labels, *more):
    result = run("models", "reference", "own", "--dataset", "csv", "--data", labels, "--split", "val", *more)
    assert result.exit_code == 0, result.stderr
    return result


def found(result):
    return {Path(row["path"]).stem: row for row in json.loads(result.stdout)}


def test_a_model_of_ones_own_gets_a_reference_and_images_get_words(run, models, labels, photos):
    make(run, labels)
    (kept,) = read_card(models / "own.json").references
    assert (kept.n, kept.population) == (len(LEVELS), "labels.csv, val")
    assert kept.command == "dpiqa models reference own --dataset csv --data labels.csv --split val"
    rows = found(run("score", photos, "--model", "own", "--json"))
    words = {name: row["band"] for name, row in rows.items()}
    assert words == {
        "black": "bad",
        "dark": "poor",
        "grey": "fair",
        "light": "good",
        "white": "excellent",
        "broken": None,
    }
    assert [rows[name]["percentile"] for name in ("black", "grey", "broken")] == [
        pytest.approx(4, abs=4),  # the darkest of the population is as black: it is no better
        pytest.approx(50, abs=2),
        None,
    ]


def test_the_table_counts_the_words_and_names_the_population(run, models, labels, photos):
    make(run, labels)
    result = run("score", photos, "--model", "own")
    assert "images by band" in result.stdout
    assert "labels.csv, val" in result.stderr
    assert "labels.csv, val" in run("models", "show", "own").stdout


def test_percentiles_are_of_the_population_and_shares_of_the_images(run, models, labels, photos):
    make(run, labels)
    low = run("score", photos, "--model", "own", "--below-percentile", "25", "--json")
    assert set(found(low)) == {"black", "dark", "broken"}  # what has no score is never dropped
    assert low.exit_code == 1
    assert "2 of 5 scored images are below the 25th percentile of the reference population" in low.stderr
    two = [photos / "white.png", photos / "grey.png"]
    high = run("score", *two, "--model", "own", "--above-percentile", "95", "--json")
    assert (high.exit_code, set(found(high))) == (0, {"white"})
    worst = run("score", photos, "--model", "own", "--worst", "25%", "--json")
    assert set(found(worst)) == {"black", "dark", "broken"}  # 2 of 5, as 25% of 5 is more than 1
    assert set(found(run("score", *two, "--model", "own", "--best", "5%", "--json"))) == {"white"}
    none = run("score", photos / "grey.png", "--model", "own", "--below-percentile", "5", "--output", "none.csv")
    assert none.exit_code == 0, none.stderr
    with Path("none.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == []
    assert run("score", photos, "--model", "own", "--worst", "5%", "--below-percentile", "5").exit_code == 2


def test_files_have_the_columns(run, models, labels, photos):
    make(run, labels)
    run("score", photos / "white.png", "--model", "own", "-o", "f.parquet")
    (row,) = pyarrow.parquet.read_table("f.parquet").to_pylist()
    assert (row["percentile"], row["band"]) == (100, "excellent")


def test_without_a_reference_there_are_scores_but_no_shares(run, models, photos):
    rows = found(run("score", photos, "--model", "own", "--json"))
    assert {row["band"] for row in rows.values()} == {None}
    assert rows["white"]["score"] is not None
    assert set(found(run("score", photos, "--model", "own", "--worst", "20%", "--json"))) == {"black", "broken"}
    result = run("score", photos, "--model", "own", "--below-percentile", "5")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "dpiqa models reference own" in result.stderr


def test_a_folder_of_photographs_and_a_second_reference_in_place_of_the_first(run, models, labels, photos):
    make(run, labels)
    result = run("models", "reference", "own", "--data", photos, "--population", "five of ours", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["bands"].keys() == {"bad", "poor", "fair", "good", "excellent"}
    assert "1 images were not scored" in result.stderr
    assert "few for a reference" in result.stderr
    (kept,) = read_card(models / "own.json").references
    assert (kept.n, kept.population) == (5, "five of ours")


def test_other_weights_under_the_name_have_no_meaning_yet(run, models, labels, photos):
    make(run, labels)
    (models / "own.onnx").write_bytes(green_mean(16, with_map=True))
    card = read_card(models / "own.json").model_copy(update={"sha256": sha256_of(models / "own.onnx")})
    (models / "own.json").write_text(card.model_dump_json())
    rows = found(run("score", photos, "--model", "own", "--json"))
    assert {row["band"] for row in rows.values()} == {None}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["bundled-student", "--data", "photos"], "--card"),
        (["brightness", "--data", "photos"], "name the folder"),
        (["own", "--data", "photos", "--split", "val"], "--dataset"),
        (["own", "--data", "population/labels.csv", "--dataset", "csv", "--split", "test"], "another --split"),
        (["own", "--data", "photos/broken.jpg"], "a reference needs more"),
    ],
)
def test_what_cannot_be(run, models, labels, photos, words, hint):
    before = (models / "own.json").read_bytes()
    result = run("models", "reference", *words)
    assert result.exit_code == 2, result.stderr
    assert hint in result.stderr
    assert (models / "own.json").read_bytes() == before


@pytest.fixture
def scored(ledger, system):
    """Twenty images scored 0.00 to 0.95 by a worker of `smoke@1`; those from 0.40 to 0.60 wait for the teacher."""
    refs = [ImageRef(bucket=system.name, key=f"{n:02}.png", etag=f"e{n}") for n in range(20)]
    _, ids = ledger.submit(refs, bucket=system.name)

    def score(card):
        claims = ledger.worker_claims(ids)
        said = [Scored(claim, int(claim.ref.key[:2]) / 20, claim.ref.etag) for claim in claims]
        ledger.do(record, Stage.STUDENT, ledger.profile, card, said, decide=decide)

    return score


def keys(result):
    assert result.exit_code == 0, result.stderr
    return [row["key"] for row in json.loads(result.stdout)]


def test_scores_of_a_band(run, scored):
    scored(BRIGHTNESS.model_copy(update={"references": (EVEN,)}))
    assert keys(run("scores", "--band", "bad", "--json")) == ["00.png", "01.png"]
    assert keys(run("scores", "--band", "bad", "--band", "excellent", "--json")) == [
        "00.png",
        "01.png",
        "18.png",
        "19.png",
    ]
    assert keys(run("scores", "--band", "good", "--best", "50%", "--json")) == ["17.png", "16.png"]
    rows = {row["key"]: row for row in json.loads(run("scores", "--json").stdout)}
    assert (rows["19.png"]["percentile"], rows["19.png"]["band"]) == (pytest.approx(95), "excellent")
    assert run("scores", "-o", "all.csv").exit_code == 0
    with Path("all.csv").open(newline="") as file:
        assert next(row["band"] for row in csv.DictReader(file)) == "bad"
    assert "fair" in run("scores").stdout


def test_bands_of_a_scorer_without_a_reference(run, scored):
    scored(BRIGHTNESS)
    result = run("scores", "--band", "bad")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "dpiqa models reference brightness" in result.stderr
    assert {row["band"] for row in json.loads(run("scores", "--json").stdout)} == {None}


def test_a_reference_made_later_counts_for_scores_made_before(run, scored, ledger, system):
    scored(BRIGHTNESS)

    def one_more(key, card):
        _, ids = ledger.submit([ImageRef(bucket=system.name, key=key, etag="e")], bucket=system.name)
        (claim,) = ledger.worker_claims(ids)
        ledger.do(record, Stage.STUDENT, ledger.profile, card, [Scored(claim, 0.99, "e")], decide=decide)

    one_more("by-the-new-card.png", BRIGHTNESS.model_copy(update={"references": (EVEN,)}))
    assert keys(run("scores", "--band", "bad", "--json")) == ["00.png", "01.png"]
    one_more("by-the-old-card.png", BRIGHTNESS)  # a worker that has not seen the new card takes nothing away
    assert keys(run("scores", "--band", "bad", "--json")) == ["00.png", "01.png"]
