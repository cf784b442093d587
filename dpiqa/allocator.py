"""glibc's memory allocator, as processes that score set it."""

import ctypes
import os
import sys

_M_ARENA_MAX = -8  #: of glibc's <malloc.h>


def share_one_arena() -> None:
    """Let threads that are started from now on allocate from glibc's main arena, unless `MALLOC_ARENA_MAX` is set.

    An arena of a thread's own holds no buffer above 64 MiB: each batch would get its large buffers from the kernel
    again, page by page, and the bundled student would take up to twice the time on a CPU. Call it before there are
    threads: arenas that exist stay in use, and other threads share them. Does nothing with another libc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)
