"""The next page, for clients that follow links."""

from fastapi import Request, Response


def link_next(request: Request, response: Response, next_cursor: str | None) -> None:
    """Add `Link: <...>; rel="next"`, as a path: behind a proxy only the caller knows the host."""
    if next_cursor is not None:
        url = request.url.include_query_params(cursor=next_cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
