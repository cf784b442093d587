"""Large files over HTTP: resumed, bounded in time, never half. Free of torch, and of what the files are for."""

from dpiqa.downloads.fetch import fetch
from dpiqa.downloads.patience import Patience

__all__ = ["Patience", "fetch"]
