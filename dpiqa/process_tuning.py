"""Garbage collection, glibc's memory allocator and OpenMP's threads, as processes of dpiqa set them."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Names and values of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TRIM_AT, _PAD = 2**31 - 1, 256 * 2**20  #: bytes
_SPINS = "3000"  #: some tens of microseconds


@contextmanager
def without_collections() -> Iterator[None]:
    """Do not look for garbage meanwhile, while modules are imported: what they make lives as long as the process.

    Python would look through it again and again, for a tenth or more of the processor time of imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def share_one_arena() -> None:
    """Let threads that are started from now on allocate from glibc's main arena, unless `MALLOC_ARENA_MAX` is set.

    An arena of a thread's own holds no buffer above 64 MiB: each batch would get its large buffers from the kernel
    again, page by page, and the bundled student would take up to twice the time on a CPU. Call it before there are
    threads: arenas that exist stay in use, and other threads share them.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _set({_M_ARENA_MAX: 1})


def keep_buffers() -> bool:
    """Let this process keep the memory that it frees, up to 2 GiB. Returns whether it will: only glibc can be asked.

    glibc returns large buffers to the kernel after every pass, and a network on a CPU needs them again in the next: a
    bundled student then takes about two thirds of the time for a picture, and for an update while training. The same as
    `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=268435456` in the environment.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _TRIM_AT, _M_TOP_PAD: _PAD})


def limit_spinning() -> None:
    """Let a thread that waits for torch's other threads spin for a short time only.

    libgomp lets it spin for some 10 ms, several hundred times in a picture. Where other processes compute too, the
    thread that it waits for has no core meanwhile: two processes of two threads each on two cores took .24 s for a
    picture instead of .17, and 2.7 s at times (`benchmarks/shared_cores.py`). Call it before torch is imported: libgomp
    reads the environment when it is loaded. Changes nothing where `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY` is set.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def _set(settings: Mapping[int, int]) -> bool:
    """Return whether the process's allocator took all settings; musl and other systems have none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    results = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(results)  # of a list: the second is set although the first is refused
