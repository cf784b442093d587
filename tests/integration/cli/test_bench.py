"""`dpiqa bench` on real files, with and without a ledger."""

import json

import pytest
from support.photos import jpeg

N = 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty photographs and a file that is none, in batches of four; two decode processes."""
    for name, value in {"BATCH_SIZE": 4, "DECODE_PROCESSES": 2, "FETCH_THREADS": 3}.items():
        monkeypatch.setenv(f"DPIQA_{name}", str(value))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(N):
        (photos / f"{number:02}.jpg").write_bytes(jpeg(0.5, seed=number))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    return photos


@pytest.mark.parametrize("options", [[], ["--ledger"]])
def test_the_figures_of_a_simulated_device_fit_each_other(run, folder, options):
    result = run("bench", str(folder), "--model", "brightness", "--simulate-device", "20", *options, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["images"], report["failed"], report["simulated_rate"]) == (N, 1, 20)
    busy = report["device_busy"]  # less where other tests use the cores
    assert busy > 0.3
    assert (report["bottleneck"] == "model") == (busy >= 0.85), report
    assert report["images_per_second"] == pytest.approx(20 * busy, rel=0.1)
    assert report["batch_fill"] > 0.5
    steps = {step["step"]: step for step in report["steps"]}
    of_worker = {"claim", "decide", "record"} if options else set()
    assert set(steps) == {"list", "fetch", "decode", "transfer", "model"} | of_worker
    assert steps["model"]["images_per_second"] == pytest.approx(20, rel=0.05)
    assert steps["model"]["cpu_ms"] < 5
    assert steps["decode"]["cpu_ms"] > 0.1
    assert (report["cpu_ms_postgres"] is not None) == bool(options)
    assert report["cpu_ms"] == pytest.approx(report["cpu_ms_beside_model"] + steps["model"]["cpu_ms"], rel=0.05)


def test_people_read_a_verdict_and_what_to_change(run, folder):
    shown = " ".join(run("bench", str(folder), "-m", "brightness", "-n", "20").stdout.split())
    assert "brightness:" in shown
    assert "verdict The run was too short to tell" in shown
    assert "next Take at least 40 images" in shown


def test_what_cannot_be_measured_is_one_line(run, folder):
    for words, code in (
        (["nowhere"], 4),
        ([str(folder), "-m", "nobody"], 4),
        ([str(folder), "--simulate-device", "0"], 2),
    ):
        result = run("bench", *words)
        assert (result.exit_code, "Traceback" in result.stderr) == (code, False), result.stderr


def test_objects_of_a_bucket_are_measured_too(run, system):
    for number in range(6):
        system.put(f"2024/{number}.jpg", jpeg(0.5, seed=number))
    result = run("bench", f"s3://{system.name}/2024/", "-m", "brightness", "--limit", "5", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    steps = {step["step"]: step["images"] for step in report["steps"]}
    assert (report["images"], report["failed"], steps["fetch"], steps["list"]) == (5, 0, 5, 5)
