"""Paths of requests: without the prefix of the service, with the methods they have, without a slash at the end.

The prefix is in `path` and in `root_path` of a request's scope, as ASGI wants it: `dpiqa.api.manners.PathPrefix`.
"""

from fastapi import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request as the routes name it, without the prefix of the service."""
    path: str = scope["path"]
    return path[len(scope.get("root_path", "")) :]


def methods_of(request: Request) -> list[str]:
    """Return the methods that the path of a request has, sorted; none where there is no such path.

    Of `/v1/jobs/manifest` those of this path, not those of `/v1/jobs/{job_id}`.
    """
    routes = getattr(request.app.state, "routes", request.app.router.routes)
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    exact = [route for route in fitting if getattr(route, "path", "") == route_path(request.scope)]
    methods: set[str] = set().union(*(getattr(route, "methods", None) or () for route in exact or fitting))
    if methods:
        methods |= {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return sorted(methods)


def without_slash(request: Request) -> Response | None:
    """Return a redirect from a path with a slash at its end to the same path without, where there is one.

    The location is a path: behind a proxy only the client knows the host.
    """
    path = route_path(request.scope)
    bare = path.rstrip("/")
    if not bare or bare == path:
        return None
    prefix = request.scope.get("root_path", "")
    if not methods_of(Request({**request.scope, "path": prefix + bare})):
        return None
    query = request.url.query
    return RedirectResponse(f"{prefix}/{bare.lstrip('/')}" + (f"?{query}" if query else ""), 308)
