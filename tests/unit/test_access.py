"""Objects and prefixes that grants cover."""

import pytest

from dpiqa.access import Grants

GRANTS = Grants.of(["s3://photos/in/", "file:///srv/photos"])


@pytest.mark.parametrize(
    ("bucket", "key", "is_covered"),
    [
        ("photos", "in/a.jpg", True),
        ("photos", "in/", True),
        ("photos", "in/a..b/..c.jpg", True),
        ("photos", "in", False),
        ("photos", "inside/a.jpg", False),
        ("photos", "IN/a.jpg", False),
        ("photos", "/in/a.jpg", False),
        ("photos", "", False),
        ("Photos", "in/a.jpg", False),
        ("photos-2", "in/a.jpg", False),
        ("", "photos/in/a.jpg", False),
        ("photos/in", "a.jpg", False),  # not the bucket `photos`, though the address reads the same
        ("photos", "in/../out/a.jpg", False),
        ("photos", "in/../../other/a.jpg", False),
        ("photos", "in/..", False),
        ("file:///srv/photos", "a.jpg", True),
        ("file:///srv/photos/2024", "a.jpg", True),
        ("file:///srv/photos-2", "a.jpg", False),
        ("file:///srv/photos", "../secret.jpg", False),
        ("file:///srv", "photos/a.jpg", True),
        ("file:///srv", "", False),
    ],
)
def test_what_grants_cover(bucket, key, is_covered):
    assert GRANTS.cover(bucket, key) is is_covered
