"""Keys that act on a terminal, and terminals that cannot show them: every command that shows what the ledger holds."""

import json
import os
import subprocess
import sys

import pytest
from support.ledger import ref

from dpiqa.storage.items import Rejected, Scored
from dpiqa.types import Reason, Stage

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
KEYS = [
    "gr\u00fcn/\x1b[31mred.jpg",
    "gr\u00fcn/\u202egnp.jpg",
    "gr\u00fcn/\u65e5\u672c.jpg",
    "gr\u00fcn/a\nb\x9b1m.jpg",
]
COMMANDS = [
    ["jobs", "list"],
    ["jobs", "show", "latest"],
    ["jobs", "report", "latest"],
    ["jobs", "report", "latest", "--json"],
    ["items", "latest"],
    ["items", "latest", "--json"],
    ["follow", "latest", "--timeout", "1"],
    ["scores"],
    ["scores", "--json"],
    ["stats", "--bucket", "photos", "--by", "prefix"],
    ["scorers"],
    ["workers"],
    ["watches", "list"],
    ["watches", "show", "s3://photos/gr\u00fcn/"],
    ["reconciliations"],
    ["requirements", "list"],
    ["config", "show"],
    ["db", "current"],
    *(["lookup", f"s3://photos/{key}"] for key in KEYS),
]
PROGRAM = """
import json, os, sys
from dpiqa.cli.main import app
from dpiqa.cli.support import terminal
for name in ("stdout", "stderr"):
    terminal._prepare(name)
codes = []
for words in json.loads(os.environ["COMMANDS"]):
    try:
        app(words, prog_name="dpiqa")
    except SystemExit as end:
        codes.append(int(end.code or 0))
    sys.stdout.flush()
print(json.dumps(codes))
"""


@pytest.fixture
def odd(ledger):
    job, ids = ledger.submit([ref(key, f"e{n}", bucket="photos") for n, key in enumerate(KEYS)], prefix="gr\u00fcn/")
    *scored, last = ledger.worker_claims(ids)
    outcomes = [Scored(claim, 0.4 + n / 100, claim.ref.etag) for n, claim in enumerate(scored)]
    ledger.worker_records(Stage.STUDENT, [*outcomes, Rejected(last, Reason.CORRUPT, "no \x1b[1m\u00e4\x07")])
    return job


def test_every_command_shows_odd_keys_in_ascii_and_lets_none_act_on_the_terminal(odd):
    env = {**os.environ, **ASCII, "COMMANDS": json.dumps(COMMANDS)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    *_, codes = done.stdout.decode("utf-8").splitlines()
    codes = dict(zip(map(" ".join, COMMANDS), json.loads(codes), strict=True))
    assert {name: code for name, code in codes.items() if code not in (0, 1, 4)} == {}
    assert b"\\x1b[31mred.jpg" in done.stdout
    assert b"a\\nb\\x9b1m.jpg" in done.stdout
    assert not set(done.stdout + done.stderr) & {0x1B, 0x07, 0x9B}
