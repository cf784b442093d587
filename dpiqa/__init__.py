"""dpiqa: blind image quality scores for very large image archives.

The library below the workers, the API and the command line. It imports neither Celery nor FastAPI, and
importing it (or `dpiqa.storage`, `dpiqa.events`, `dpiqa.routing`, ...) never imports torch: see the import
contracts in `pyproject.toml`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dpiqa")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
