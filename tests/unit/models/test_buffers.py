"""Memory that is freed and kept."""

import subprocess
import sys


def test_glibc_is_asked_to_keep_what_is_freed():
    """In a process of its own: it cannot be taken back."""
    code = "import platform; from dpiqa.allocator import keep_buffers; print(platform.libc_ver()[0], keep_buffers())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed[-1] == str(printed[0] == "glibc")
