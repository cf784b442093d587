"""Both forms of the condition that a key begins with a text choose the same keys, odd ones too."""

import pytest
from sqlalchemy import Text, column, select, values

from dpiqa.storage.score_filter import begins_with, begins_with_unestimated

LAST = "\U0010ffff"
PREFIXES = ["a", "a/", "a%", "a_", "a\\", "é", "é/", "日本/", "\U0001f600", LAST, "a" + LAST, "a'b", "a b", "a/b/c/"]
ENDS = ["", "x", "/", "%", "_", "\\", "~", "é", "日", "\U0001f600", LAST, LAST * 3, "/b/c/d.jpg"]
NEIGHBOURS = ["b", "A", "a.", "a0", "`", "è", "ê", "日本.", "日本0", "\U0001f601", "\x7f", "\x01"]
KEYS = sorted({*NEIGHBOURS, *(prefix + end for prefix in PREFIXES for end in ENDS), "a" + LAST * 255, LAST * 256})


@pytest.mark.parametrize("begins", [begins_with, begins_with_unestimated])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_keys_that_begin_with_it_and_no_others(engine, begins, prefix):
    table = values(column("key", Text), name="named").data([(key,) for key in KEYS])
    with engine.connect() as c:
        found = c.execute(select(table.c.key).where(begins(table.c, prefix))).scalars().all()
    assert sorted(found) == [key for key in KEYS if key.startswith(prefix)]
