"""The next page, for people who follow links; and shares such as `5%`, turned into a score that stays put."""

import base64
import binascii
import json
import math

from fastapi import Request, Response

from dpiqa.errors import InvalidRequest

CURSOR_HINT = "leave `cursor` out to begin again; use each `next_cursor` with the filter it came from, unchanged"


def link_next(request: Request, response: Response, next_cursor: str | None) -> None:
    """Add `Link: <...>; rel="next"`, as a path: behind a proxy only the caller knows the host."""
    if next_cursor is not None:
        url = request.url.include_query_params(cursor=next_cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def share_of(text: str) -> float:
    """Turn `5%` into 0.05. Raises `InvalidRequest` outside 0-100 %."""
    share = float(text.removesuffix("%")) / 100
    if not 0 < share <= 1:
        raise InvalidRequest(f"{text} is no share of the images", hint="give more than 0% and at most 100%")
    return share


def pack(threshold: float | None, cursor: str | None) -> str | None:
    """Put the threshold of the first page into the cursor: the later pages must not move with new scores."""
    if cursor is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([threshold, cursor]).encode()).decode().rstrip("=")


def unpack(text: str) -> tuple[float | None, str]:
    """Return threshold and inner cursor. Raises `InvalidRequest` for anything that `pack` did not make."""
    try:
        threshold, cursor = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        finite = isinstance(threshold, float) and math.isfinite(threshold)
        if not isinstance(cursor, str) or not (threshold is None or finite):
            raise ValueError(text)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidRequest("the cursor is not one of ours", hint=CURSOR_HINT) from None
    return threshold, cursor
