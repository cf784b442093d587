"""The connection file: how other commands find the embedded stack. Free of torch.

`<home>/local/connection.json`, mode 0600 (it holds passwords), is written when the stack is ready and removed when it
stops. It names its supervisor by process id and start time, so a file that a killed supervisor left is known as stale.
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
    """Return the connection file of that home."""
    return local_dir(home) / "connection.json"


def process_mark(pid: int) -> dict[str, Any] | None:
    """Return what tells this process from a later one with the same id; None when there is no such process."""
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE  # whose parent has not looked yet
        return None if ended else {"pid": pid, "started": process.create_time()}
    except psutil.Error:
        return None


def is_alive(mark: Any) -> bool:
    """Whether the process of that mark still runs."""
    if not isinstance(mark, dict) or not isinstance(mark.get("pid"), int):
        return False
    now = process_mark(mark["pid"])
    # create_time moves by a clock tick when the wall clock is adjusted
    return now is not None and abs(now["started"] - float(mark.get("started", 0))) < 2


def read_connection(home: Path) -> dict[str, Any]:
    """Return the connection file's content, of a live or a dead stack; empty when there is none or it is damaged."""
    try:
        content = json.loads(connection_path(home).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_live_connection(home: Path) -> dict[str, Any]:
    """Return the connection of a running stack; empty when none runs."""
    content = read_connection(home)
    return content if is_alive(content.get("supervisor")) else {}


def write_connection(home: Path, values: dict[str, Any]) -> None:
    """Write the connection file for the stack of this process."""
    content = {**values, "supervisor": process_mark(os.getpid())}
    replace_text(connection_path(home), json.dumps(content, indent=1) + "\n", private=True)
