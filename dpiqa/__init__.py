"""dpiqa: blind image quality scores for very large image archives.

    import dpiqa

    for row in dpiqa.score(["a.jpg", "b.jpg"]):  # files, once
        print(row.ref.key, row.score, row.band)

    scorer = dpiqa.load("bundled-student")       # files, bytes, Pillow images, arrays; the model stays in memory
    client = dpiqa.Client("http://dpiqa:8000")   # the service: jobs, scores of the archive

`docs/python.md` is the guide. Below the names of `__all__` lies the library of the workers, the API and the command
line. It imports neither Celery nor FastAPI, and importing it (or `dpiqa.storage`, `dpiqa.events`, `dpiqa.routing`, ...)
never imports torch: see the import contracts in `pyproject.toml`.
"""

import os
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpiqa.http_api.client import Client
    from dpiqa.imaging.measures import measure
    from dpiqa.library import ImageScorer, list_models, load
    from dpiqa.pipeline.local_run import ScoredObject

__all__ = ["Client", "ImageScorer", "ScoredObject", "__version__", "list_models", "load", "measure", "score"]

__version__: str
#: Names -> modules that are imported when a name is first used: `import dpiqa` stays fast.
_MODULES = {
    "Client": "dpiqa.http_api.client",
    "ImageScorer": "dpiqa.library",
    "ScoredObject": "dpiqa.pipeline.local_run",
    "list_models": "dpiqa.library",
    "load": "dpiqa.library",
    "measure": "dpiqa.imaging.measures",
}


def __getattr__(name: str) -> Any:
    """Return a name of `__all__`, or the version, when it is first asked for."""
    if name in _MODULES:
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("dpiqa")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def score(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: str = "bundled-student",
    *,
    details: bool = False,
) -> "list[ScoredObject]":
    """Score image files in this process, without a queue or a database.

    The scores are those of `dpiqa score PATH --model MODEL`. Loading a model and starting its decode processes takes
    seconds, so pass all files in one call. Device, limits and models folder come from the settings (`DPIQA_...`).
    Nothing is printed: log lines go to the standard library's `logging`, or to structlog if the program configured it.

    Args:
        paths: Files, in any format of docs/imaging.md; one path counts as a list of one.
        model: Name of an installed model; `dpiqa models list` shows them.
        details: Also measure each picture: `row.measures`, as `measure` returns them. About 3 ms each.

    Returns:
        One row for each path, in the same order. `row.score` is None where a file has no score, and then `row.reason`
        and `row.detail` say why: one bad file does not end the call.

    Raises:
        NotFound: No model has this name.
        ConfigurationError: The model cannot run here: a library, its weights or a requirement is missing.
    """
    # Imported here: `import dpiqa` stays fast, and needs no torch.
    from dpiqa.logs import log_as_a_library  # noqa: PLC0415
    from dpiqa.models.choice import parse_choice  # noqa: PLC0415
    from dpiqa.objects.store import LocalFiles  # noqa: PLC0415
    from dpiqa.pipeline.local_run import score_objects  # noqa: PLC0415
    from dpiqa.settings import load_settings  # noqa: PLC0415
    from dpiqa.types import ImageRef  # noqa: PLC0415

    log_as_a_library()
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    refs = [ImageRef(bucket="", key=os.fspath(path), etag="") for path in paths]
    choice = parse_choice(model=model)
    return list(score_objects(LocalFiles(), refs, choice=choice, settings=load_settings(), details=details))
