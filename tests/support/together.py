"""`python -m support.together FOLDER WHAT`: two processes train it, as `accelerate launch` would start them.

WHAT: `toy`, or `student`, a small one that is also held to the order of distorted copies.

They meet through a file instead of a port, which another process could take. Prints what each ended with, as JSON.
"""

import json
import os
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from dpiqa.training.config.kinds import StudentRun
from dpiqa.training.config.run import Cadence
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.fit import fit
from dpiqa.training.runs.student import StudentTask, new_student

from .training import STUDENT, Toy, toy_plan, waves


def toy(_folder):
    """Return the task and its plan."""
    plan = toy_plan(accumulation=2, epochs=2)
    return Toy(plan), plan


def student(folder):
    """Return the task and its plan: 16 pictures, all of them with distorted copies."""
    document = tomllib.loads(STUDENT)
    document["loss"] = {"distorted": {"share": 1.0, "kinds": ["gaussian_noise"]}}
    document["plan"] |= {"batch": 4, "epochs": 2}
    run = StudentRun.model_validate(document | {"data": {"cache": str(folder / "cache")}})
    rows = np.arange(16)
    names = tuple("abcdefghijklmnop")
    data = Labelled(
        pixels=waves(16), labels=rows / 16, train=rows, val=rows, sha256=names, images=(), folder=folder / "pixels"
    )
    torch.manual_seed(0)
    return StudentTask(new_student(run.model.architecture, run.model.begin, 0.5), data, run), run.plan


def share(folder, what, index):
    """Train as process `index` of two; writes the weights it ended with and the batches it saw."""
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=index, world_size=2, timeout=timedelta(minutes=4)
    )
    task, plan = {"toy": toy, "student": student}[what](folder)
    seen = []
    original = task.loss

    def spy(network, rows, rng):
        seen.append(sorted(map(int, rows)))
        return original(network, rows, rng)

    task.loss = spy
    outcome = fit(task, plan, folder / "run", cadence=Cadence(checkpoint_every_steps=1), cpu=True)
    weights = {name: tensor.tolist() for name, tensor in task.network.state_dict().items()}
    report = {"main": outcome.is_main, "steps": outcome.steps, "seen": seen, "weights": weights}
    (folder / f"{index}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


def main():
    folder, what = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    children = []
    for index in range(2):
        child = os.fork()
        if child == 0:
            try:
                share(folder, what, index)
            except BaseException as error:
                sys.stderr.write(f"{index}: {error!r}\n")
                os._exit(1)
            os._exit(0)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    reports = [json.loads((folder / f"{index}.json").read_text()) for index in range(2)] if not any(ends) else []
    sys.stdout.write(json.dumps({"ends": ends, "reports": reports}) + "\n")


if __name__ == "__main__":
    main()
