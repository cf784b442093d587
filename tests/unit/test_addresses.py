import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpiqa.addresses import prefix_end, probe_id, probe_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def test_a_probe_is_known_by_its_key():
    probe = uuid.uuid4()
    assert probe_key("in/", probe) == f"in/.dpiqa-probe-{probe}"
    assert probe_id(probe_key("in/", probe)) == probe
    for key in ("in/a.png", "in/.dpiqa-probe-", "in/.dpiqa-probe-x", f"{probe}", f"in/.dpiqa-probe-{probe}.png"):
        assert probe_id(key) is None


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("", None), ("in/", "in0"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000")],
)
def test_ends_of_prefixes(prefix, end):
    assert prefix_end(prefix) == end


@given(TEXT, TEXT, TEXT)
def test_the_end_divides_keys_as_their_bytes_do(prefix, rest, other):
    end = prefix_end(prefix)
    if end is None:
        return
    assert prefix.encode() <= (prefix + rest).encode() < end.encode()
    if other.encode() >= prefix.encode() and not other.startswith(prefix):
        assert other.encode() >= end.encode()
