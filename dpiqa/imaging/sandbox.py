"""Sandbox of decode processes: what a decoder that an attacker took over can still do.

It computes, reads Python's own files, and talks to its owner: no network, no other files, no other processes, no new
privileges. Landlock and seccomp enforce it, each where the kernel has it; see `docs/imaging.md` for what holds without.
"""

import ctypes
import enum
import resource
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from dpiqa.imaging import landlock, syscalls

_PR_SET_NO_NEW_PRIVS = 38
#: Folders of shared libraries, which are loaded when a decoder first needs them.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")


class Confinement(enum.Flag):
    """Parts of a sandbox that are in force."""

    NO_NEW_PRIVILEGES = enum.auto()  #: a program that it starts gets no rights of its own (set-user-id)
    LANDLOCK = enum.auto()  #: files: only Python's own, and only for reading
    SECCOMP = enum.auto()  #: system calls: an allow-list
    NO_NEW_FILES = enum.auto()  #: neither files nor sockets can be opened, as there are no numbers for them

    @property
    def is_complete(self) -> bool:
        """Return whether network, files and processes are all out of reach."""
        return Confinement.SECCOMP in self and Confinement.NO_NEW_PRIVILEGES in self

    def __str__(self) -> str:
        """Name the parts: `landlock, seccomp`."""
        names = {Confinement.LANDLOCK: "landlock", Confinement.SECCOMP: "seccomp"}
        names |= {Confinement.NO_NEW_PRIVILEGES: "no new privileges", Confinement.NO_NEW_FILES: "no new files"}
        return ", ".join(name for part, name in names.items() if part in self) or "nothing"


NOTHING = Confinement(0)


def enter(prepare: Callable[[], None]) -> Confinement:
    """Confine this process for good; return what is in force. Call it before other threads exist.

    Without Landlock no file can be opened any more; `prepare` is then called first, to load what is loaded lazily.
    """
    if sys.platform != "linux":
        prepare()
        return _without_new_files()
    parts = NOTHING
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        parts |= Confinement.NO_NEW_PRIVILEGES
    if landlock.restrict(readable_paths()):
        parts |= Confinement.LANDLOCK
    else:
        prepare()
    if syscalls.is_known() and syscalls.install(syscalls.program(opening=Confinement.LANDLOCK in parts)):
        return parts | Confinement.SECCOMP
    if Confinement.LANDLOCK not in parts:
        parts |= _without_new_files()
    return parts


def readable_paths() -> set[Path]:
    """Return the folders of Python, of the packages that are loaded, and of shared libraries; never a home folder."""
    paths = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")} | set(map(Path, _LIBRARIES))
    paths.add(Path(sys.base_prefix) / "lib")
    files = [Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    for file in files:
        site = next((folder for folder in file.parents if folder.name in ("site-packages", "dist-packages")), None)
        paths.add(site or file.parent)
    return {path for path in paths if len(path.parts) > 1}


def _without_new_files() -> Confinement:
    """Leave no number for another file or socket. What is open stays open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return Confinement.NO_NEW_FILES
