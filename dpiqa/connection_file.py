"""Connection file: tells other commands how to reach the embedded stack. Free of torch.

`<home>/local/connection.json`, mode 0600 (it holds passwords), is written when the stack is ready and removed when it
stops. It names its supervisor by process id and start time, so the file of a killed supervisor is recognised as stale.
"""

import json
import os
from pathlib import Path
from typing import Any

import psutil

from dpiqa.files import replace_text


def local_dir(home: Path) -> Path:
    """Folder with everything of the embedded stack."""
    return home / "local"


def connection_path(home: Path) -> Path:
    """Return the connection file of a home."""
    return local_dir(home) / "connection.json"


def process_identity(pid: int) -> dict[str, Any] | None:
    """Return values that distinguish this process from a later one with the same id; None if it does not exist."""
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE  # not reaped yet by its parent
        return None if ended else {"pid": pid, "started": process.create_time()}
    except psutil.Error:
        return None


def is_alive(identity: Any) -> bool:
    """Return whether the process of a `process_identity` is still running."""
    if not isinstance(identity, dict) or not isinstance(identity.get("pid"), int):
        return False
    current = process_identity(identity["pid"])
    # create_time moves by a clock tick when the wall clock is adjusted
    return current is not None and abs(current["started"] - float(identity.get("started", 0))) < 2


def read_connection(home: Path) -> dict[str, Any]:
    """Return the file's content, of a running or a stopped stack; empty if it does not exist or is damaged."""
    try:
        content = json.loads(connection_path(home).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_live_connection(home: Path) -> dict[str, Any]:
    """Return the connection of a running stack; empty if none is running."""
    content = read_connection(home)
    return content if is_alive(content.get("supervisor")) else {}


def write_connection(home: Path, values: dict[str, Any]) -> None:
    """Write the connection file for the stack of this process."""
    content = {**values, "supervisor": process_identity(os.getpid())}
    replace_text(connection_path(home), json.dumps(content, indent=1) + "\n", private=True)
