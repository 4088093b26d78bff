"""The doctor prints what is there, for people and as JSON, and ends with exit code 2 where something is missing."""

import hashlib
import json

import pytest

from sam_med2d import doctor
from sam_med2d.runtime import machine
from tests.helpers.commands import run_command
from tests.helpers.paths import ROOT

SOUND = {
    "processor": {"name": "x", "cores": 8, "cores_of_container": None, "threads": 8, "features": {"AVX2": True}},
    "memory": {"all": 16.0, "free": 8.0, "of_container": None, "shared": 8.0},
    "accelerators": {"gpus": [], "built_for_cuda": None, "nvidia_driver": False, "mps": False},
    "disk": {"folder": "/here", "free": 50.0},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Half precision is not timed."""
    times = {"half": 1.0, "float32": 1.5}
    found = {"dtype": "bfloat16", "device": "cpu", "speed": 1.5, "milliseconds": times, "pays": True}
    monkeypatch.setattr(machine, "half_precision", lambda device: found)


def test_a_sound_machine_ends_with_0(capsys):
    assert run_command(doctor, []) == 0
    text = capsys.readouterr().out
    for line in ("requirements-app.txt: For the annotation page", "--use_amp: pays; bfloat16 is 1.5 times", "disk: "):
        assert line in text, line
    assert "fundus_vit_t.safetensors is as it was shipped" in text


def test_the_same_as_json(capsys):
    assert run_command(doctor, ["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [] and found["packages"][0]["packages"]["numpy"]["fits"]
    assert {"weights", "processor", "memory", "accelerators", "use_amp", "disk", "versions", "notes"} <= found.keys()


def test_the_shipped_weights_are_those_of_the_digest():
    (line,) = (ROOT / "pretrain_model/SHA256SUMS").read_text().splitlines()
    content = (ROOT / "pretrain_model/fundus_vit_t.safetensors").read_bytes()
    assert line == f"{hashlib.sha256(content).hexdigest()}  fundus_vit_t.safetensors"


def test_damaged_and_absent_weights_are_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  cut.safetensors\n{'0' * 64}  gone.safetensors\n")
    (tmp_path / "cut.safetensors").write_bytes(b"half")
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path)
    assert run_command(doctor, []) == 2
    message = capsys.readouterr().err
    assert "cut.safetensors (4 bytes) is not what was shipped" in message and "gone.safetensors is not there" in message


def test_a_missing_package_is_told_and_nothing_of_pytorch_is_used(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "installation_problems", lambda files: ["torch: not installed: pip install"])
    monkeypatch.setattr(doctor, "_machine", lambda: pytest.fail("imports PyTorch"))
    assert run_command(doctor, ["--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["problems"] == ["torch: not installed: pip install"]
    assert "error: 1 problem(s) on this machine:\n  torch: not installed" in captured.err


def test_what_works_but_not_well_is_noted():
    wrong = []
    for part, changed, expected in (
        ("disk", {}, None),
        ("disk", {"free": 0.5}, "0.5 GB are free in /here"),
        ("memory", {"shared": 0.06}, "--num_workers 0"),
        ("processor", {"cores_of_container": 2.5}, "OMP_NUM_THREADS=2"),
        ("processor", {"cores_of_container": 8.0}, None),
        ("accelerators", {"nvidia_driver": True}, "is a build for CPUs and finds no GPU"),
        ("accelerators", {"nvidia_driver": True, "built_for_cuda": "13.0"}, "is built for CUDA 13.0 and finds no GPU"),
        ("accelerators", {"mps": True}, "--device mps"),
    ):
        notes = list(doctor._notes(SOUND | {part: SOUND[part] | changed}))
        good = not notes if expected is None else len(notes) == 1 and expected in notes[0]
        wrong += [] if good else [(changed, notes)]
    assert not wrong
