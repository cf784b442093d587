"""Downloads of large files over HTTP: resumed, bounded in time, complete or absent. Independent of models."""

from dpiqa.downloads.fetch import Timeouts, fetch

__all__ = ["Timeouts", "fetch"]
