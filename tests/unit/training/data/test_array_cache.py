"""Rows of arrays that are computed once."""

import numpy as np
import pytest

from dpiqa.training.data.array_cache import cached_rows


def test_rows_go_on_where_a_killed_process_left_them(tmp_path):
    computed = []

    def make(rows, *, until=200):
        for row in rows:
            if row >= until:
                raise KeyboardInterrupt
            computed.append(row)
            yield np.full(3, row)

    file = tmp_path / "rows" / "rows.npy"
    with pytest.raises(KeyboardInterrupt):
        cached_rows(file, (150, 3), np.float32, lambda rows: make(rows, until=100), label="rows")
    again = cached_rows(file, (150, 3), np.float32, make, label="rows")
    assert np.array_equal(again, np.repeat(np.arange(150.0)[:, None], 3, axis=1))
    assert computed == [
        *range(100),
        *range(64, 150),
    ]  # a block that was not noted is made again, the one before it is not
    cached_rows(file, (150, 3), np.float32, lambda rows: pytest.fail(f"{rows} are there already"), label="rows")
