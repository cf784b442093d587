import pytest

from dpiqa.datasets import DATASETS
from dpiqa.evaluation import contamination as texts
from dpiqa.evaluation.contamination import contamination
from dpiqa.evaluation.published import TABLE, published
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.models.cards import find_card


def card(trained_on, figures=None):
    return BRIGHTNESS.model_copy(update={"kind": "student", "trained_on": trained_on, "figures": figures or {}})


@pytest.mark.parametrize(
    ("trained_on", "dataset", "split", "published", "expected"),
    [
        ("KonIQ-10k; the split is not published", "koniq10k", "test", True, texts.SPLIT_UNKNOWN),
        ("KonIQ-10k; the split is not published", "clive", "all", False, texts.ZERO_SHOT),
        ("LIVE-FB (FLIVE)", "flive", "test", True, texts.SPLIT_UNKNOWN),
        ("LIVE-FB (FLIVE)", "live", "all", False, texts.ZERO_SHOT),
        ("LIVE in the Wild Challenge (CLIVE)", "clive", "test", True, texts.SPLIT_UNKNOWN),
        ("LIVE, CSIQ", "clive", "all", False, texts.ZERO_SHOT),
        ("LIVE-C", "clive", "test", True, texts.SPLIT_UNKNOWN),
        ("LIVEFB, split unknown", "flive", "test", True, texts.SPLIT_UNKNOWN),
        ("LIVEFB, split unknown", "clive", "test", True, texts.ZERO_SHOT),
        ("CLIVE, LIVE, CSIQ", "live", "test", True, texts.SPLIT_UNKNOWN),
        ("CSIQ; photographs for bidding", "bid", "all", False, texts.ZERO_SHOT),
        ("12 mixed data sets, splits unknown", "koniq10k", "test", True, texts.UNKNOWN),
        ("", "spaq", "test", True, texts.UNKNOWN),
        ("SPAQ, official training split", "spaq", "train", True, texts.SEEN),
        ("SPAQ, official training split", "spaq", "all", True, texts.SEEN),
        ("SPAQ, official training split", "spaq", "test", True, texts.HELD_OUT),
        ("SPAQ, official training split", "spaq", "test", False, texts.FAMILY),
        ("SPAQ, official training split", "csv", "test", True, texts.ANY_CSV),
        ("SPAQ, official training split", "csv:0..100", "test", True, texts.ANY_CSV),
    ],
)
def test_what_a_card_lets_one_conclude(trained_on, dataset, split, published, expected):
    assert contamination(card(trained_on), dataset, split, published=published) == expected


def test_a_split_that_chose_the_model_is_no_test():
    selected = card("SPAQ, training split", {"SPAQ val": {"chosen_on": "this split"}})
    assert contamination(selected, "spaq", "val", published=True) == texts.CHOSEN
    assert contamination(selected, "spaq", "test", published=True) == texts.HELD_OUT


def test_what_training_chose_its_checkpoint_by_is_chosen_whatever_the_figures_are_called():
    trained = card("SPAQ, training split", {"csv val": {"n": 3}, "training": {"identity": {"select_on": "val"}}})
    assert contamination(trained, "spaq", "val", published=True) == texts.CHOSEN
    assert contamination(trained, "spaq", "test", published=True) == texts.HELD_OUT


@pytest.mark.parametrize("name", ["bundled-student", "bundled-teacher", "bundled-tiny"])
def test_the_bundled_models_have_seen_their_training_split(name):
    bundled = find_card(name)
    assert contamination(bundled, "biq2021", "train", published=True) == texts.SEEN
    assert contamination(bundled, "biq2021", "test", published=True) == texts.HELD_OUT
    assert contamination(bundled, "biq2021", "test", published=False) == texts.FAMILY
    assert contamination(bundled, "koniq10k", "test", published=True) == texts.ZERO_SHOT


def test_promptiqa_was_trained_on_twelve_sets():
    promptiqa = card(
        "LIVE, CSIQ, TID2013, KADID-10k, BID, SPAQ, CLIVE, KonIQ-10k, GFIQA-20k, AGIQA-3K, AIGCIQA2023 and UWIQA,"
        " mixed; splits unknown"
    )
    sets = [spec.name for spec in (DATASETS.values() if isinstance(DATASETS, dict) else DATASETS) if spec.name != "csv"]
    notes = {name: contamination(promptiqa, name, "test", published=True) for name in sets}
    assert [name for name, note in notes.items() if note == texts.ZERO_SHOT] == ["flive", "biq2021"]
    assert set(notes.values()) == {texts.ZERO_SHOT, texts.SPLIT_UNKNOWN}


def test_a_function_of_the_pixels_has_seen_nothing():
    assert contamination(BRIGHTNESS, "spaq", "train", published=True) == ""


def test_published_figures_are_of_data_sets_that_commands_know():
    names = {spec.name for spec in (DATASETS.values() if isinstance(DATASETS, dict) else DATASETS)}
    assert {row.dataset for row in TABLE} | {row.trained_on for row in TABLE} <= names
    assert all(row.source for row in TABLE)
    assert all(0 < row.srcc < 1 for row in TABLE)


def test_published_figures_within_the_set_come_first():
    koniq = published("koniq10k")
    assert [(row.model, row.srcc, row.plcc) for row in koniq[:2]] == [
        ("DP-IQA teacher", 0.942, 0.951),
        ("DP-IQA student", 0.926, 0.944),
    ]
    assert [row.trained_on for row in koniq] == ["koniq10k"] * 2 + ["flive"] * 2 + ["clive"] * 2
    assert published("csv") == []
