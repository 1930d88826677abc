"""The command that builds a dataset: what it prints and draws, what it refuses, and that it may be stopped."""

import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import shipped
from PIL import Image

from dpconv_jax import cli
from dpconv_jax.data import prepare, sources

COMMAND = [sys.executable, "-m", "dpconv_jax.data.prepare"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    code = cli.run(prepare.main, list(arguments))
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


def flags(tmp_path: pathlib.Path, name: str = "deepfashion2") -> list[str]:
    return [f"--dataset={name}", f"--manual_dir={tmp_path / 'shipped'}", f"--data_dir={tmp_path / 'built'}"]


def test_counts_and_a_contact_sheet(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    shipped.deepfashion2(tmp_path / "shipped")
    code, lines, errors = run(capsys, *flags(tmp_path), "--allow_rejected=0.5", "--num_workers=1")
    where = tmp_path / "built/deepfashion2/288"
    expected = [
        f"deepfashion2 in {where / '1.0.0'}",
        "train: 8 photos, published about 191,961, 4 left out",
        "          1  dress",
        "          5  long sleeve dress",
        "          1  shorts",
        "          1  skirt",
        "validation: 3 photos, published about 32,153, 0 left out",
        "          3  long sleeve dress",
        f"left out: {where / 'rejected.csv'}",
        f"contact sheet: {where / 'contact_sheet.png'}",
    ]
    assert (code, lines, errors) == (0, [f"building deepfashion2 in {where / '1.0.0'}", *expected], [])
    sheet = np.asarray(Image.open(where / "contact_sheet.png"))
    assert sheet.shape[2] == 3 and np.count_nonzero((sheet == (214, 51, 108)).all(-1)) > 1000  # holes
    code, lines, _ = run(capsys, *flags(tmp_path))  # built: the files it was made of are not needed
    assert (code, lines) == (0, expected)
    before = (where / "contact_sheet.png").read_bytes()

    (shard,) = where.glob("*/*train*")
    shard.write_bytes(shard.read_bytes()[:-20_000])
    code, _, errors = run(capsys, *flags(tmp_path))
    assert code == 2 and "train of" in errors[0] and "delete what is built" in errors[0]
    (where / "1.0.0" / "dataset_info.json").write_text('{"name": "deep')
    code, _, errors = run(capsys, *flags(tmp_path))
    assert code == 2 and errors[0].startswith("error: what is built of deepfashion2 in") and len(errors) == 1
    assert (where / "contact_sheet.png").read_bytes() == before


def test_notes_stand_above_the_counts(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    shipped.fashionai_attributes(tmp_path / "shipped", rank=False)
    _, lines, _ = run(capsys, *flags(tmp_path, "fashionai"), "--allow_rejected=0.5")
    assert lines[2].startswith("test: 2 of the training photos, by the hash of their names; there is no rank")
    assert "test: 2 photos, published 10,000, 0 left out" in lines


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--dataset=fashion"], "data.name 'fashion' is unknown"),
        (["--dataset=image_folder"], "--dataset=image_folder: it is read where it lies, and never built"),
        (
            ["--dataset=deepfashion2"],
            "data.manual_dir '' is no folder; deepfashion2 needs the one made by: fill in the form",
        ),
        (
            ["--dataset=deepfashion2", "--manual_dir={tmp}"],
            "is empty; deepfashion2 needs the one made by: fill in the form",
        ),
        (["--dataset=deepfashion2", "--num_worker=2"], "'--num_worker=2' is no flag"),
        (["--dataset=deepfashion2", "--num_workers=0"], "--num_workers is 0"),
        (["--dataset=deepfashion2", "--allow_rejected=2"], "--allow_rejected is 2.0"),
        (["--dataset=synthetic_garments", "--beam_runner=DirectRunner"], "synthetic_garments is built without Beam"),
        (
            ["--dataset=deepfashion2", "--beam_runner=DirectRunner", "--regon=x"],
            "'--regon=x' is no flag, neither of this",
        ),
        (
            ["--dataset=deepfashion2", "--beam_runner=NoRunner", "--manual_dir={tmp}"],
            "--beam_runner: Unexpected pipeline runner: NoRunner",
        ),
    ],
)
def test_mistakes(arguments: list[str], rule: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "folder").mkdir()
    arguments = [each.replace("{tmp}", str(tmp_path / "folder")) for each in arguments]
    code, _, errors = run(capsys, f"--data_dir={tmp_path / 'built'}", *arguments)
    assert code == 2 and len(errors) == 1
    assert rule in errors[0]


def big(root: pathlib.Path) -> pathlib.Path:
    """Enough photos for seconds of work."""
    photo = shipped.jpeg(shipped.picture(0, size=(1600, 2560), boxes=[(480, 320, 1120, 2240)]))
    note = shipped.annotation(shipped.item("dress", 11, (480, 320, 1120, 2240)))
    for index in range(400):
        shipped.write(root / f"train/image/{index:06d}.jpg", photo)
        shipped.write(root / f"train/annos/{index:06d}.json", note)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 42), (signal.SIGTERM, 42), (signal.SIGKILL, -9)])
def test_stopped_and_run_again(number: signal.Signals, code: int, tmp_path: pathlib.Path):
    big(tmp_path / "shipped")
    where = tmp_path / "built/deepfashion2/288"
    process = subprocess.Popen([*COMMAND, *flags(tmp_path)], stderr=subprocess.PIPE, text=True)
    while not list(where.glob("incomplete.*")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # somewhere among the photos, which take seconds
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert not (where / "1.0.0").exists()
    if code == 42:
        assert errors == "stopped: nothing is left half built, the same command starts again\n"
        assert not list(where.glob("incomplete.*"))
    subprocess.run([*COMMAND, *flags(tmp_path)], check=True, timeout=300)
    assert sorted(path.name for path in where.iterdir()) == [".lock", "1.0.0", "contact_sheet.png", "rejected.csv"]
    assert len(sources.open_source("deepfashion2", "train", data_dir=str(tmp_path / "built"))) == 400


@pytest.mark.slow
def test_two_at_once_build_one_after_the_other(tmp_path: pathlib.Path):
    big(tmp_path / "shipped")
    processes = [subprocess.Popen([*COMMAND, *flags(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("building" in each for each in said) == 1


@pytest.mark.slow
def test_two_workers_of_beam(tmp_path: pathlib.Path):
    shipped.deepfashion2(tmp_path / "shipped")
    beam = ["--beam_runner=DirectRunner", "--num_workers=2", "--allow_rejected=0.5"]
    done = subprocess.run([*COMMAND, *flags(tmp_path), *beam], capture_output=True, text=True, timeout=300, check=True)
    assert "train: 8 photos, published about 191,961, 4 left out" in done.stdout
