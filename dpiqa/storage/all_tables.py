"""Every table of the database, for the migrations. A process of its own imports only the tables that it uses."""

from importlib import import_module
from pkgutil import iter_modules

from dpiqa import storage
from dpiqa.storage.tables import metadata

__all__ = ["metadata"]

# Found by name: a list could lack one, and a migration written by `dpiqa db revision` would drop its tables.
for _module in iter_modules(storage.__path__, f"{storage.__name__}."):
    if _module.name.endswith("_tables") and _module.name != __name__:
        import_module(_module.name)
