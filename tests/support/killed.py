"""`python -m support.killed LABELS FOLDER`: a student trained whole, and one through kill -9 at many moments.

One process imports torch and forks a child for each attempt, so that a dozen real deaths cost one import. Prints, as
JSON, how every child died and what both runs left behind.
"""

import hashlib
import io
import json
import os
import signal
import sys
from pathlib import Path

import torch

from dpiqa.models import folder as models_folder
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import StudentRun
from dpiqa.training.data import array_cache
from dpiqa.training.loop import checkpoints, fit, log
from dpiqa.training.loop.log import SilentObserver, read_log
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.student import train_student

from .training import STUDENT


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAfter(SilentObserver):
    def __init__(self, step):
        self._step = step

    def stepped(self, *, step, loss):
        if step == self._step:
            die()


def while_decoding():
    """Between two blocks of decoded pictures."""
    array_cache.BLOCK = 8
    original = array_cache.RowNotes.add

    def add(notes, lines):
        original(notes, lines)
        if len(notes.lines) == 16:
            with notes.file.open("a") as file:
                file.write('["half a li')
            die()

    array_cache.RowNotes.add = add


def while_saving():
    """With half of the state's bytes written."""

    def half(state, path):
        whole = io.BytesIO()
        original(state, whole)
        path.write_bytes(whole.getvalue()[: whole.tell() // 2])
        die()

    original, checkpoints.torch.save = torch.save, half


def before_the_state_takes_its_place():
    """With the new state written and not yet renamed, the second time."""
    original, turns = checkpoints.replace_file, []

    def replace(path, write):
        if path.name == checkpoints.LAST_NAME and turns:
            write(path.with_name(f"{path.name}.partial-{os.getpid()}"))
            die()
        turns.append(path.name == checkpoints.LAST_NAME) if path.name == checkpoints.LAST_NAME else None
        return original(path, write)

    checkpoints.replace_file = replace


def after_the_best_was_kept():
    """With weights on disk that the state does not know of yet."""
    original = checkpoints.save_best

    def save(out, network):
        original(out, network)
        die()

    fit.save_best = save


def in_the_middle_of_a_line():
    """With half a line in the log."""
    original = log.RunLog.write

    def write(run_log, step, entry):
        if step >= 8:
            with run_log._file.open("a") as file:
                file.write('{"step": 8, "los')
            die()
        original(run_log, step, entry)

    log.RunLog.write = write


def while_publishing():
    """With the weights in the models folder and no card."""
    original = models_folder.write_card

    def write(card, target):
        if target.name == "models":
            die()
        original(card, target)

    models_folder.write_card = write


DEATHS = [
    ("while decoding", while_decoding),
    ("before the first checkpoint", DiesAfter(2)),
    ("while saving", while_saving),
    ("after the best was kept", after_the_best_was_kept),
    ("in the middle of an epoch", DiesAfter(5)),
    ("before the state takes its place", before_the_state_takes_its_place),
    ("in the middle of a line", in_the_middle_of_a_line),
    ("at the last update", DiesAfter(12)),
    ("while publishing", while_publishing),
]


def train(labels, folder, observer=None):
    config = resolve(
        StudentRun,
        file=folder.parent / "student.toml",
        overrides=[
            f'data.sets=[{{name="csv", path="{labels}"}}]',
            f"data.cache={folder}/cache",
            f"output.folder={folder}/run",
            "output.name=made",
            "output.bootstrap_draws=10",
            "output.checkpoint_every_steps=3",
            "output.log_every_steps=2",
            "plan.epochs=3",
            "plan.batch=4",
            "plan.validate_every_steps=4",
        ],
    )
    train_student(config, RunContext(models_dir=folder / "models", device="cpu", observer=observer))


def in_a_child(labels, folder, death=None):
    """Train in a forked process; returns how it ended (`os.waitpid`'s status)."""
    child = os.fork()
    if child == 0:
        try:
            if callable(death):
                death()
            train(labels, folder, death if isinstance(death, DiesAfter) else None)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def left_behind(folder):
    weights = (folder / "models" / "made.safetensors").read_bytes()
    card = json.loads((folder / "models" / "made.json").read_text())
    card["figures"]["training"].pop("minutes")
    lines = [{name: value for name, value in line.items() if name != "seconds"} for line in read_log(folder / "run")]
    return {"weights": hashlib.sha256(weights).hexdigest(), "log": lines, "card": card}


def main():
    labels, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    (folder / "student.toml").write_text(STUDENT)
    whole, cut = folder / "whole", folder / "cut"
    ends = {"whole": in_a_child(labels, whole)}
    deaths = {name: in_a_child(labels, cut, death) for name, death in DEATHS}
    ends["cut"] = in_a_child(labels, cut)
    report = {"ends": ends, "deaths": deaths, "whole": left_behind(whole), "cut": left_behind(cut)}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
