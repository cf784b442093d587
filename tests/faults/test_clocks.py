"""Machines whose clocks are an hour off, each in another direction."""

from pathlib import Path

import pytest

LIBRARIES = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib/faketime").glob("libfaketimeMT*")]


@pytest.mark.skipif(not LIBRARIES, reason="Debian's package `faketime` is not installed")
def test_clocks_that_are_an_hour_off(story, n):
    def clock(offset):
        return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    story.keep("listener", **clock("-1h"))
    story.keep("student", **clock("+1h"))
    story.keep("teacher", "student-2", **clock("-1h"))
    story.upload(n, seconds=5)
    story.pause(2, 4)
    story.kept["student"].kill()
    story.finish()
