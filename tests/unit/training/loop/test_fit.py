"""The loop on a task of milliseconds: what is kept, what is refused, what goes on."""

import json
import signal

import pytest
import torch
from support.training import Toy, toy_plan

from dpiqa.errors import CheckpointError, ConfigurationError, InvalidRequest, TrainingDiverged, TrainingInterrupted
from dpiqa.files import locked_folder
from dpiqa.training.config.run import Cadence
from dpiqa.training.loop.checkpoints import BEST_NAME, LAST_NAME
from dpiqa.training.loop.fit import fit
from dpiqa.training.loop.log import SilentObserver, read_log

OFTEN = Cadence(checkpoint_every_steps=4, log_every_steps=3)


class At(SilentObserver):
    """Does something after one update."""

    def __init__(self, step, action):
        self._step, self._action = step, action

    def stepped(self, *, step, loss):
        if step == self._step:
            self._action()


def weights(task):
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def timeless(out):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in read_log(out)]


def test_loss_falls_and_the_log_says_how(tmp_path):
    plan = toy_plan(epochs=12)
    outcome = fit(Toy(plan, dropout=0), plan, tmp_path, cadence=OFTEN)
    losses = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
    assert losses[-1] < losses[0] / 3
    assert outcome.steps == 12 * 8
    assert [line["step"] for line in read_log(tmp_path) if "val_error" in line] == [*range(5, 96, 5), 96]


@pytest.mark.parametrize(
    "plan",
    [toy_plan(), toy_plan(accumulation=2), toy_plan(ema=0.0, optimiser="adam")],
    ids=["adamw", "accumulated", "adam"],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path, plan):
    whole = Toy(plan)
    fit(whole, plan, tmp_path / "whole", cadence=OFTEN)

    class CrashError(Exception):
        pass

    def crash():
        raise CrashError

    for step in (2, 6, 10):
        with pytest.raises(CrashError):
            fit(Toy(plan), plan, tmp_path / "cut", cadence=OFTEN, observer=At(step, crash))
    cut = Toy(plan)
    fit(cut, plan, tmp_path / "cut", cadence=OFTEN)
    for name, value in weights(whole).items():
        assert torch.equal(weights(cut)[name], value), name
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path):
    plan = toy_plan()
    whole, cut = Toy(plan), Toy(plan)
    fit(whole, plan, tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    ask = At(7, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match="after update 7 of 24"):
        fit(Toy(plan), plan, tmp_path / "cut", observer=ask)
    fit(cut, plan, tmp_path / "cut", observer=At(3, lambda: pytest.fail("update 3 was made twice")))
    assert all(torch.equal(weights(cut)[name], value) for name, value in weights(whole).items())
    assert signal.getsignal(signal.SIGINT) is before  # Ctrl-C means what it meant before


def test_a_finished_run_is_not_run_again(tmp_path):
    plan = toy_plan()
    first, again = Toy(plan), Toy(plan)
    fit(first, plan, tmp_path)
    fit(again, plan, tmp_path)
    assert again.calls == 0
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(first).items())


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Up to the batch statistics, which the passes take apart."""
    results = []
    for batch, accumulation in ((16, 1), (8, 2)):
        plan = toy_plan(batch=batch, accumulation=accumulation, epochs=1, ema=0.0)
        task = Toy(plan, dropout=0)
        task.network[1] = torch.nn.Identity()
        task.loss = _without_noise(task)
        fit(task, plan, tmp_path / str(batch))
        results.append(weights(task))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-4, atol=1e-5)


def _without_noise(task):
    class Quiet:
        @staticmethod
        def standard_normal(shape):
            return torch.zeros(shape).numpy()

    original = task.loss
    return lambda network, rows, rng: original(network, rows, Quiet)


def test_the_best_validation_is_kept_not_the_last(tmp_path):
    plan = toy_plan(ema=0.0)
    task = Toy(plan, merits=[float("nan"), 0.2, 0.9, 0.5, 0.9])
    seen = []
    spy = At(15, lambda: seen.append(weights(task)))
    outcome = fit(task, plan, tmp_path, observer=spy)
    assert outcome.best_step == 15
    assert all(torch.equal(weights(task)[name], value) for name, value in seen[0].items())
    assert [line["best"] for line in read_log(tmp_path) if "best" in line] == [True, True, True, False, False]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    plan = toy_plan()
    with pytest.raises(TrainingDiverged, match="nan in update 9") as caught:
        fit(Toy(plan, diverge_at=9), plan, tmp_path)
    assert "plan.rate" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "identity", "complaint"),
    [({"rate": 1e-3}, {}, "another plan.rate: 0.01, now 0.001"), ({}, {"data": "b"}, "another data: 'a', now 'b'")],
)
def test_a_folder_of_another_run_is_refused(tmp_path, changes, identity, complaint):
    fit(Toy(toy_plan()), toy_plan(), tmp_path, identity={"data": "a"})
    other = toy_plan(**changes)
    with pytest.raises(ConfigurationError, match=complaint):
        fit(Toy(other), other, tmp_path, identity={"data": "a"} | identity)


def test_a_damaged_state_says_so(tmp_path):
    fit(Toy(toy_plan()), toy_plan(), tmp_path)
    (tmp_path / LAST_NAME).write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
        fit(Toy(toy_plan()), toy_plan(), tmp_path)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    with locked_folder(tmp_path), pytest.raises(InvalidRequest, match="another process"):
        fit(Toy(toy_plan()), toy_plan(), tmp_path)


def test_nothing_to_learn_from(tmp_path):
    plan = toy_plan(batch=65)
    with pytest.raises(InvalidRequest, match="fewer than 1 batches of 65"):
        fit(Toy(plan), plan, tmp_path)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / f"{LAST_NAME}.partial-1").write_bytes(b"half")
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 30, "loss": 1}) + '\n{"step": 3')
    plan = toy_plan()
    fit(Toy(plan), plan, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST_NAME, LAST_NAME, "lock", "log.jsonl"]
    assert max(line["step"] for line in read_log(tmp_path)) == 24


def test_tensorboard_gets_the_same_figures(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plan = toy_plan()
    fit(Toy(plan), plan, tmp_path, cadence=Cadence(tensorboard=True, log_every_steps=3))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = {line["step"]: line["loss"] for line in read_log(tmp_path) if "loss" in line}
    recorded = {event.step: event.value for event in events.Scalars("loss")}
    assert recorded == pytest.approx(logged, rel=1e-5)
