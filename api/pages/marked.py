"""Pictures that were marked in the grid of scores, as its form sends them: a bucket and a key, as a query."""

from collections.abc import Sequence
from urllib.parse import parse_qs

from dpiqa.access import Grants
from dpiqa.errors import InvalidRequest

MAX_MARKED = 600  #: ten pages of the grid


def marked_objects(marked: Sequence[str], grants: Grants) -> list[tuple[str, str]]:
    """Return bucket and key of each picture, once. Raises `InvalidRequest`, and `NotFound` for one beyond grants."""
    objects = []
    for text in marked:
        fields = parse_qs(text)
        if set(fields) != {"bucket", "key"}:
            raise InvalidRequest("a marked picture is not a bucket and a key", hint="mark pictures in the grid")
        bucket, key = fields["bucket"][0], fields["key"][0]
        grants.require(bucket, key)
        objects.append((bucket, key))
    return list(dict.fromkeys(objects))
