"""Pages and cursors, without a database."""

import pytest

from dpiqa.errors import InvalidRequest
from dpiqa.storage.pages import MAX_LIMIT, Page, check_limit, decode, encode, pack, unpack


@pytest.mark.parametrize(
    ("n", "items", "cursor"), [(0, [], None), (2, [0, 1], None), (3, [0, 1, 2], None), (4, [0, 1, 2], "2")]
)
def test_a_page_has_a_cursor_where_more_rows_were_read(n, items, cursor):
    assert Page.cut(range(n), 3, str) == Page(items, cursor)


def test_a_cursor_returns_its_position_to_its_own_query_only():
    cursor = encode(("items", "a"), [0.1, 7, "é☃"])
    assert decode(("items", "a"), cursor, [float, int, str]) == [0.1, 7, "é☃"]
    with pytest.raises(InvalidRequest, match="a different query"):
        decode(("items", "b"), cursor, [float, int, str])
    with pytest.raises(InvalidRequest, match="a different query"):
        decode(("items", "a"), cursor, [float, int, int])
    with pytest.raises(InvalidRequest, match="a different query"):
        decode(("items", "a"), cursor, [float, int])


@pytest.mark.parametrize("text", ["", "x", "!", "bm90IGpzb24", "bnVsbA", "W10", "WzEsMl0", "ünïcode", "\x00"])
def test_other_texts_are_not_cursors(text):
    with pytest.raises(InvalidRequest, match="cursor"):
        decode("query", text, [int])


def test_packed_values_need_no_escaping_in_a_url():
    values = [None, -1e300, "?&=/+ \u202e"]
    assert pack(values).replace("-", "").replace("_", "").isalnum()
    assert unpack(pack(values)) == values


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1])
def test_limits(limit):
    assert [check_limit(n) for n in (1, MAX_LIMIT)] == [1, MAX_LIMIT]
    with pytest.raises(InvalidRequest, match="1 to 1000 rows"):
        check_limit(limit)
