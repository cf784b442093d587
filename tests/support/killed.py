"""`python -m support.killed KIND LABELS FOLDER`: a scorer trained whole, and one through kill -9 at many moments.

KIND: `student`, or `stage_teacher`, a teacher that looks through a student.

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
from dpiqa.training.config.kinds import StudentRun, TeacherRun
from dpiqa.training.data import array_cache
from dpiqa.training.loop import checkpoints, fit, log
from dpiqa.training.loop.log import SilentObserver, read_log
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.student import train_student
from dpiqa.training.runs.teacher import train_teacher

from .training import STAGE_TEACHER, STUDENT, publish_stage_student


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAfter(SilentObserver):
    def __init__(self, step):
        self._step = step

    def stepped(self, *, step, loss):
        if step == self._step:
            die()


def while_computing_what_is_frozen():
    """Between two blocks of what the parts of a teacher that do not learn make of the pictures."""
    while_decoding("teacher.jsonl")


def while_decoding(name="pixels.jsonl"):
    """Between two blocks of decoded pictures."""
    array_cache.BLOCK = 8
    original = array_cache.RowNotes.add

    def add(notes, lines):
        original(notes, lines)
        if notes.file.name == name and len(notes.lines) == 16:
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


DEATHS_OF_A_STUDENT = [
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


DEATHS_OF_A_TEACHER = [
    ("while computing what is frozen", while_computing_what_is_frozen),
    ("in the middle of an epoch", DiesAfter(5)),
    ("at the last update", DiesAfter(12)),
]
#: Settings, schema, training and deaths of each kind.
KINDS = {
    "student": (STUDENT, StudentRun, train_student, DEATHS_OF_A_STUDENT),
    "stage_teacher": (STAGE_TEACHER, TeacherRun, train_teacher, DEATHS_OF_A_TEACHER),
}


def train(kind, labels, folder, observer=None):
    _, schema, run, _ = KINDS[kind]
    config = resolve(
        schema,
        file=folder.parent / "run.toml",
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
    run(config, RunContext(models_dir=folder / "models", device="cpu", observer=observer))


def in_a_child(kind, labels, folder, death=None):
    """Train in a forked process; returns how it ended (`os.waitpid`'s status)."""
    child = os.fork()
    if child == 0:
        try:
            if callable(death):
                death()
            train(kind, labels, folder, death if isinstance(death, DiesAfter) else None)
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
    kind, labels, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    text, _, _, moments = KINDS[kind]
    torch.set_num_threads(1)
    (folder / "run.toml").write_text(text)
    whole, cut = folder / "whole", folder / "cut"
    if kind == "stage_teacher":
        for side in (whole, cut):
            publish_stage_student(side / "models")
    ends = {"whole": in_a_child(kind, labels, whole)}
    deaths = {name: in_a_child(kind, labels, cut, death) for name, death in moments}
    ends["cut"] = in_a_child(kind, labels, cut)
    report = {"ends": ends, "deaths": deaths, "whole": left_behind(whole), "cut": left_behind(cut)}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
