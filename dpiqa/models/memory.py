"""glibc hands large buffers back to the kernel after every pass and asks for them anew; networks on a CPU keep them."""

import ctypes
import sys

# Names and values of <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TRIM_AT, _PAD = 2**31 - 1, 256 * 2**20  #: bytes


def keep_buffers() -> bool:
    """Let this process keep what it frees, up to 2 GiB of it. Returns whether it will: only glibc can be asked.

    On a CPU a bundled student's picture and its update while training take about two thirds of the time.
    The same as `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=268435456` in the environment.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _TRIM_AT), (_M_TOP_PAD, _PAD))
    done = [mallopt(name, value) == 1 for name, value in options]
    return all(done)
