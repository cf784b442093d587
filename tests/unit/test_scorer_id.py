"""Scorer ids: text and parts."""

from itertools import product

import pytest

from dpiqa.scorer_id import ScorerId
from dpiqa.types import Precision


def scorer_id(text="m:abc:p-v1:bfloat16"):
    return ScorerId.parse(text)


def test_the_parts_of_an_id():
    assert scorer_id("m:abc:p-v1:float16+nchw+sampled:portraits@1") == ScorerId(
        model="m",
        weights="abc",
        preprocessing="p-v1",
        precision=Precision.FLOAT16,
        channels_last=False,
        sampled=True,
        requirement="portraits@1",
    )
    assert scorer_id() == ScorerId(model="m", weights="abc", preprocessing="p-v1", precision=Precision.BFLOAT16)


@pytest.mark.parametrize(
    ("precision", "nchw", "sampled", "mirrored", "views", "backend", "requirement"),
    list(
        product(
            Precision,
            ("", "+nchw"),
            ("", "+sampled"),
            ("", "+mirrored"),
            ("", "+views256"),
            ("", "+openvino", "+compile"),
            ("", ":portraits@1"),
        )
    ),
)
def test_an_id_is_written_as_it_was_read(precision, nchw, sampled, mirrored, views, backend, requirement):
    text = f"m:abc:p-v1:{precision}{nchw}{sampled}{mirrored}{views}{backend}{requirement}"
    assert str(scorer_id(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "m", "m:abc:p-v1", "m:abc:p-v1:float32:r@1:more", "m:abc:p-v1:float64", "m:abc:p-v1:float32+sampled+nchw"]
    + [f"m:abc:p-v1:float32+{end}" for end in ("eager", "auto", "openvino+nchw", "openvino+compile")]
    + [f"m:abc:p-v1:float32+{end}" for end in ("views", "views0", "views256+mirrored")],
)
def test_what_is_not_a_scorer_id(text):
    with pytest.raises(ValueError, match="is not a scorer id"):
        scorer_id(text)


def test_features_serve_a_checkpoint_in_any_precision():
    assert scorer_id().same_checkpoint(scorer_id("m:abc:p-v1:float32+nchw"))
    assert scorer_id().checkpoint == scorer_id("m:abc:p-v1:float32+nchw").checkpoint == "m:abc:p-v1"


@pytest.mark.parametrize("other", ["n:abc:p-v1:bfloat16", "m:abd:p-v1:bfloat16", "m:abc:p-v2:bfloat16"])
def test_other_checkpoints(other):
    assert not scorer_id().same_checkpoint(scorer_id(other))


def test_only_the_name_may_differ():
    own = scorer_id("m:abc:p-v2:float32")
    assert own.same_but_for_name(scorer_id("n:abc:p-v2:float32"))
    for other in ("n:abd:p-v2:float32", "n:abc:p-v1:float32", "n:abc:p-v2:bfloat16", "n:abc:p-v2:float32:r@1"):
        assert not own.same_but_for_name(scorer_id(other))


def test_a_reference_of_the_first_preprocessing_counts_for_the_second():
    first, second = scorer_id("m:abc:p-v1:float32"), scorer_id("n:abc:p-v2:bfloat16")
    assert first.same_population(second)
    assert first.same_population(scorer_id("m:abc:p-v2:float32+openvino"))
    assert second.same_population(first)
    assert not first.same_checkpoint(second)


@pytest.mark.parametrize(
    "other", ["m:abd:p-v2:float32", "m:abc:q-v2:float32", "m:abc:p-v3:float32", "m:abc:p-v10:float32"]
)
def test_other_populations(other):
    assert not scorer_id().same_population(scorer_id(other))
