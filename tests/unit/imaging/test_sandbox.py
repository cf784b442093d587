"""The sandbox of decode processes: what a decoder that was taken over cannot do, and what decoders need."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support.images import encoded, photograph

from dpiqa.errors import ConfigurationError, ImageRejected
from dpiqa.imaging import landlock, syscalls
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.imaging.sandbox import Confinement, readable_paths

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only new files are out of reach")

HERE = Path(__file__).parent
EVIL = (sys.executable, "-P", str(HERE / "evil_child.py"))
SIZE = Preprocessing(width=32, height=24)
needs_seccomp = pytest.mark.skipif(not syscalls.is_known(), reason="there is no filter for this architecture")
needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


def without(*parts):
    """Return the command of the evil decode process on a kernel that lacks some parts."""
    patches = {
        "landlock": "landlock.restrict = lambda paths: False",
        "seccomp": "syscalls.install = lambda code: False",
    }
    code = "; ".join(
        [
            "import sys",
            f"sys.path.insert(0, {str(HERE)!r})",
            "from dpiqa.imaging import child, landlock, syscalls",
            *(patches[part] for part in parts),
            "import evil_child",
            "child.decode_and_prepare = evil_child.work",
            "child.main()",
        ]
    )
    return (sys.executable, "-P", "-c", code)


def answers(command, **limits):
    """Return what the system answered to each attempt of a decoder to escape."""
    with DecodePool(1, Limits(**limits), command=command) as pool, pytest.raises(ImageRejected) as caught:
        pool.submit(b"escape", SIZE).result(timeout=60)
    return dict(answer.split("=") for answer in caught.value.message.split())


@needs_seccomp
@needs_landlock
def test_a_decoder_that_was_taken_over_reaches_nothing():
    found = answers(EVIL)
    assert len(found) == 26
    assert {name: answer for name, answer in found.items() if answer not in ("EPERM", "EACCES")} == {"clone3": "ENOSYS"}
    assert not Path("/tmp/escaped").exists()


@needs_seccomp
def test_without_landlock_no_file_can_be_opened():
    found = answers(without("landlock"))
    assert {name: answer for name, answer in found.items() if answer not in ("EPERM", "EACCES")} == {"clone3": "ENOSYS"}


def test_without_both_neither_files_nor_sockets_can_be_opened():
    found = answers(without("landlock", "seccomp"))
    names = ("tcp", "udp", "unix", "pair", "passwd", "secrets", "memory", "write")
    assert {found[name] for name in names} == {"EMFILE"}


@needs_landlock
def test_landlock_alone_protects_files():
    found = answers(without("seccomp"))
    assert {found[name] for name in ("passwd", "secrets", "memory", "write", "python", "mkdir")} == {"EACCES"}


def test_what_is_off_is_off():
    assert answers(EVIL, sandbox="off")["passwd"] == "done"


@pytest.mark.parametrize("parts", [(), ("landlock",), ("seccomp",), ("landlock", "seccomp")])
def test_decoders_find_all_they_need(parts):
    images = {
        name: encoded(photograph(), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
    }
    images["CMYK"] = encoded(photograph().convert("CMYK"), "JPEG")
    images["LAB"] = encoded(photograph().convert("LAB"), "TIFF")
    with DecodePool(1, Limits(), command=without(*parts)) as pool:
        for name, data in images.items():
            expected = decode_and_prepare(data, SIZE, Limits())
            np.testing.assert_array_equal(pool.submit(data, SIZE).result(timeout=60), expected, err_msg=name)
        if "landlock" not in parts:  # threads, and modules that are loaded late
            with pytest.raises(ImageRejected, match="signature"):
                pool.submit(b"thread", SIZE).result(timeout=60)


@needs_seccomp
def test_it_says_what_is_in_force_and_may_be_required():
    with DecodePool(1, Limits(), command=without("landlock")) as pool:
        confinement = pool.start()
        assert confinement == Confinement.NO_NEW_PRIVILEGES | Confinement.SECCOMP
        assert str(confinement) == "seccomp, no new privileges"
        assert confinement.is_complete
    with (
        DecodePool(1, Limits(sandbox="require"), command=without("seccomp")) as pool,
        pytest.raises(ConfigurationError, match="demands seccomp"),
    ):
        pool.start()


def test_no_folder_of_a_user_can_be_read():
    paths = readable_paths()
    assert Path.home() not in paths
    assert not any(path in (Path.cwd(), Path("/")) for path in paths)
    assert Path(np.__file__).parents[1] in paths
