"""glibc's memory allocator, as processes that score or train set it. With another libc nothing is changed."""

import ctypes
import os
import sys
from collections.abc import Mapping

# Names and values of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TRIM_AT, _PAD = 2**31 - 1, 256 * 2**20  #: bytes


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


def _set(settings: Mapping[int, int]) -> bool:
    """Return whether the process's allocator took all settings; musl and other systems have none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    results = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(results)  # of a list: the second is set although the first is refused
