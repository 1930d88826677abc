"""The command: mistakes are one line and exit code 2, a signal is 42, and it says how to go on."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "dpconv_jax.main")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A few little photos, and one file that is none."""
    path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path / f"{index}.png")
    (path / "broken.jpg").write_bytes(b"no image")
    return path


def tiny(folder: pathlib.Path) -> list[str]:
    """The flags of a run that takes seconds to compile."""
    fields = {
        "data.dir": folder, "data.size": 32, "data.threads": 1, "model.width": 0.125, "model.dilations": "(1,1,1,1)",
        "model.dropout": 0.3, "loss.style": 0.0, "train.batch_size": 4, "train.log_every": 1,
        "train.checkpoint_every": 100, "train.eval_every": 100, "train.image_every": 100, "eval.batch_size": 4,
        "eval.bootstrap": 10,
    }  # fmt: skip
    return ["--config=configs/dpconv.py:image_folder", *(f"--config.{name}={value}" for name, value in fields.items())]


def refused(*flags: str) -> str:
    """The one line that the command prints on its error output, having ended with 2."""
    done = subprocess.run([*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config"),
        (["--config=configs/none.py"], "configs/none.py"),
        (["--config=configs/dpconv.py:mnist"], "no variant 'mnist' of configs/dpconv.py; known: clothing_small"),
        (["--config=configs/dpconv.py", "--config.train.stepz=3"], "stepz"),
        (["--config=configs/dpconv.py", "--config.train.steps=many"], "many"),
        (["--config=configs/dpconv.py", "--stepz=3"], "stepz"),
        (["--config=configs/dpconv.py", "--mode=infer"], "infer"),
        (["--config=configs/dpconv.py", "evaluate"], "'evaluate' is no flag"),
    ],
)
def test_mistakes_in_flags(flags: list[str], message: str):
    assert message in refused(*flags)


@pytest.mark.slow
def test_mistakes_in_what_the_flags_name(tmp_path, folder):
    """Through the whole program, where a library could print or exit in between; the rules have tests of their own."""
    workdir = f"--workdir={tmp_path / 'run'}"
    assert f"data.dir '{tmp_path / 'none'}'" in refused(*tiny(tmp_path / "none"), workdir)
    assert "holds no training run" in refused(*tiny(folder), workdir, "--mode=evaluate")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*tiny(folder), f"--workdir={tmp_path / 'file' / 'run'}")


@pytest.mark.slow
def test_a_signal_ends_the_command_with_42_and_the_same_command_goes_on(tmp_path, folder):
    flags = [*tiny(folder), "--config.train.steps=3000", f"--workdir={tmp_path}"]
    process = subprocess.Popen([*COMMAND, *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 5/"):
            break
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 42, errors
    reached = int(output.rsplit("stopped at step ", 1)[1].split(",")[0])
    assert reached >= 5
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(reached)]

    flags[-2] = f"--config.train.steps={reached + 2}"
    done = subprocess.run([*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"going on from step {reached}" in done.stdout
    assert "bad image broken.jpg" in errors
    report = (tmp_path / "report.md").read_text()
    assert "python -m dpconv_jax.main --config=configs/dpconv.py:image_folder" in report
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/total" in row] == list(range(1, reached + 3))
    assert sum(row.get("train/bad_images", 0) for row in rows) > 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_command_in_one_line(tmp_path, folder):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        flags = [*tiny(folder), "--config.train.checkpoint_every=1", "--config.train.keep=9", f"--workdir={disk}"]
        done = subprocess.run([*COMMAND, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "no space left" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert {path.name for path in (disk / "checkpoints").iterdir() if path.name.isdecimal()} >= {"1"}
    finally:
        subprocess.run(["umount", disk], check=True)
