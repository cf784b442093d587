"""Certificates of a test: an authority, and a server's for 127.0.0.1 and localhost."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files of a server's certificate."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder, names="IP:127.0.0.1,DNS:localhost"):
        """Make both in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        authority, certificate, key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        extensions = folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\n")
        new = ["req", "-newkey", "rsa:2048", "-nodes", "-subj"]
        openssl(*new, "/CN=test authority", "-x509", "-days", "2", "-keyout", folder / "ca.key", "-out", authority)
        openssl(*new, "/CN=test server", "-keyout", key, "-out", folder / "request")
        openssl(
            "x509", "-req", "-in", folder / "request", "-CA", authority, "-CAkey", folder / "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        key.chmod(0o644)
        return cls(authority, certificate, key)


def openssl(*arguments):
    """Run openssl."""
    subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True)
