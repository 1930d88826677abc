"""Real processes that train as one: the numbers of one process, signals, a killed process, and refused environments."""

import contextlib
import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
from toy import Toy, tiny, twenty_photos

from dpconv_jax import distributed
from dpconv_jax.checkpoints import Checkpoints, newest_step
from dpconv_jax.errors import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.training import steps
from dpconv_jax.training.writers import read_scalars

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 240  # seconds until a test gives up on its processes
HEARTBEAT = 10

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Twenty little photos."""
    return twenty_photos(tmp_path_factory.mktemp("photos"))


def command(photos: pathlib.Path, workdir: pathlib.Path, *fields: str, table: bool = False) -> list[str]:
    """The toy's training, or its table; `fields` are NAME=VALUE of the config."""
    config = f"--config={ROOT / 'tests' / 'toy_config.py'}"
    words = [sys.executable, str(ROOT / "tests" / "toy_main.py")]
    words += ["table1", f"{config}:table"] if table else ["main", config]
    return [*words, f"--config.data.dir={photos}", f"--workdir={workdir}", *(f"--config.{field}" for field in fields)]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command that says all in a log. It is killed after the test, lest it slow the next one down."""
    started: list[subprocess.Popen[bytes]] = []

    def start(words: list[str], log: pathlib.Path, **variables: str) -> subprocess.Popen[bytes]:
        with log.open("wb") as stream:
            streams = {"stdout": stream, "stderr": subprocess.STDOUT}
            started.append(subprocess.Popen(words, **streams, env=os.environ | variables, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def launched(count: int, words: list[str]) -> list[str]:
    """`words` in `count` processes."""
    return ["bash", str(ROOT / "launch" / "local.sh"), str(count), "--", *words]


def finish(process: subprocess.Popen[bytes], log: pathlib.Path, *, code: int) -> str:
    """All that was said by what ends with `code`."""
    assert process.wait(PATIENCE) == code, log.read_text()
    return log.read_text()


def wait_for(words: str, log: pathlib.Path) -> None:
    """Until a process says it."""
    until = time.monotonic() + PATIENCE
    while words not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def rank(index: int, workdir: pathlib.Path, *, of: str = "PROCESS_ID") -> int:
    """The number that the system gave the process of this index, which it has from the variable `of`."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words, variables = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        ours = words[0] == sys.executable.encode() and f"--workdir={workdir}".encode() in words
        if ours and f"{of}={index}".encode() in variables:
            return int(path.name)
    raise AssertionError(f"no process {index}")


@pytest.mark.slow
def test_two_processes_train_as_one_and_write_once(start, photos, tmp_path):
    fields = ("train.eval_every=2", "train.checkpoint_every=2", "train.image_every=2", "train.keep=1")
    for count in (1, 2):
        log, workdir = tmp_path / f"{count}.log", tmp_path / str(count)
        said = finish(start(launched(count, command(photos, workdir, *fields)), log), log, code=0)
        assert said.count("step 4/4  validation l1") == said.count("report: ") == 1
    alone, shared = (read_scalars(tmp_path / str(count) / "metrics.jsonl") for count in (1, 2))
    assert [row["step"] for row in shared] == [row["step"] for row in alone] == [1, 2, 2, 3, 4, 4]
    first = ("train/total", "train/gradient_norm", "train/discriminator_gradient_norm")
    assert [shared[0][name] for name in first] == pytest.approx([alone[0][name] for name in first], rel=1e-5)
    assert shared[-1]["val/l1"] == pytest.approx(alone[-1]["val/l1"], rel=1e-3)
    masks = [(tmp_path / str(count) / "eval" / "manifest.jsonl").read_bytes() for count in (1, 2)]
    assert masks[0] == masks[1]
    texts = ((tmp_path / str(count) / "eval" / "metrics.csv").read_text() for count in (1, 2))
    ours, theirs = ([*csv.DictReader(text.splitlines())] for text in texts)
    assert [(row["method"], row["id"], row["bucket"]) for row in ours] == [
        (row["method"], row["id"], row["bucket"]) for row in theirs
    ]
    for one, other in zip(ours, theirs, strict=True):
        if one["method"] == "mean":
            assert float(other["ssim"]) == pytest.approx(float(one["ssim"]), rel=1e-5)
    files = [{path.name for path in (tmp_path / str(count)).iterdir()} for count in (1, 2)]
    assert files[0] == files[1]
    assert [path.name for path in (tmp_path / "2" / "checkpoints").iterdir()] == ["4"]
    manifest = json.loads((tmp_path / "2" / "checkpoints" / "4" / "manifest.json").read_text())
    assert manifest["metric"] == shared[-1]["val/l1"]


@pytest.mark.slow
def test_two_processes_divide_the_cells_of_a_table_and_write_it_once(start, photos, tmp_path):
    rows = []
    for count in (1, 2):
        log, workdir = tmp_path / f"{count}.log", tmp_path / str(count)
        said = finish(start(launched(count, command(photos, workdir, table=True)), log), log, code=0)
        assert said.count("table1.md") == 1
        rows.append((workdir / "table1.csv").read_text().splitlines())
        cells = [json.loads(path.read_text()) for path in sorted((workdir / "image_folder" / "cells").iterdir())]
        assert len(cells) == 9
    unlearned = [[row for row in table if "telea" in row or "mean" in row] for table in rows]
    assert unlearned[0] == unlearned[1] and len(rows[0]) == len(rows[1])


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_process_stops_both_at_one_step_and_the_same_command_goes_on(start, photos, tmp_path, told):
    words = command(photos, tmp_path / "run", "train.checkpoint_every=100000", "train.log_every=1")
    log = tmp_path / "log"
    launcher = start(launched(2, [*words, "--config.train.steps=100000"]), log)
    wait_for("step 3/", log)
    os.kill(rank(told, tmp_path / "run"), signal.SIGTERM)
    said = finish(launcher, log, code=42)
    reached = int(said.split("stopped at step ")[1].split(",")[0])
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [str(reached)]
    more = finish(start(launched(2, [*words, f"--config.train.steps={reached + 2}"]), log), log, code=0)
    assert f"going on from step {reached}" in more
    rows = read_scalars(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "train/total" in row] == [*range(1, reached + 3)]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_job_ends_soon_after_one_process_is_killed_and_goes_on(start, photos, tmp_path, killed):
    words = command(photos, tmp_path / "run", "train.checkpoint_every=2", "train.log_every=1")
    log = tmp_path / "log"
    launcher = start(launched(2, [*words, "--config.train.steps=100000"]), log, HEARTBEAT_TIMEOUT=str(HEARTBEAT))
    wait_for("step 6/", log)
    os.kill(rank(killed, tmp_path / "run"), signal.SIGKILL)
    began = time.monotonic()
    finish(launcher, log, code=137)
    seconds = time.monotonic() - began
    print(f"process {killed} killed: the launcher ended {seconds:.1f} s later")
    assert seconds < HEARTBEAT + 5
    kept = newest_step(tmp_path / "run")
    more = finish(start(launched(2, [*words, f"--config.train.steps={kept + 2}"]), log), log, code=0)
    assert f"going on from step {kept}" in more


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_without_a_launcher_who_is_left_ends_by_the_heartbeat(start, photos, tmp_path, killed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": "2", "HEARTBEAT_TIMEOUT": str(HEARTBEAT)}
    words = command(photos, tmp_path / "run", "train.steps=100000", "train.log_every=1")
    logs = [tmp_path / f"{index}.log" for index in (0, 1)]
    both = [start(words, log, **shared, PROCESS_ID=str(index)) for index, log in enumerate(logs)]
    wait_for("step 6/", logs[0])
    both[killed].kill()
    began = time.monotonic()
    code = both[1 - killed].wait(PATIENCE)
    seconds = time.monotonic() - began
    print(f"process {killed} killed: the other ended {seconds:.1f} s later, exit code {code}")
    assert code != 0 and seconds < HEARTBEAT + 5


@pytest.mark.slow
def test_a_crash_changes_no_bit_of_what_a_training_comes_to(start, photos, tmp_path, monkeypatch):
    """With dropout, BatchNorm, drawn masks and noisy labels."""
    words = command(photos, tmp_path / "broken", "train.checkpoint_every=3", "train.log_every=1")
    log = tmp_path / "log"
    launcher = start(launched(1, [*words, "--config.train.steps=100000"]), log)
    wait_for("step 5/", log)
    os.kill(rank(0, tmp_path / "broken"), signal.SIGKILL)
    finish(launcher, log, code=137)
    kept = newest_step(tmp_path / "broken")
    for name in ("broken", "whole"):
        words = command(photos, tmp_path / name, "train.checkpoint_every=3", f"train.steps={kept + 4}")
        said = finish(start(launched(1, words), log), log, code=0)
        assert (f"going on from step {kept}" in said) == (name == "broken")
    monkeypatch.setitem(GENERATORS, "toy", Toy)
    config = tiny()
    gan = steps.build(config)
    states = []
    for name in ("broken", "whole"):
        checkpoints = Checkpoints(tmp_path / name / "checkpoints", keep=1)
        states.append(checkpoints.restore_newest(steps.initialise(gan)))
        checkpoints.close()
    assert [int(state.step) for state in states] == [kept + 4] * 2
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *states)))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"NUM_PROCESSES": "2"}, "NUM_PROCESSES without COORDINATOR_ADDRESS, PROCESS_ID"),
        ({"COORDINATOR_ADDRESS": "here", "NUM_PROCESSES": "2", "PROCESS_ID": "0"}, "HOST:PORT"),
        ({"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "two", "PROCESS_ID": "0"}, "NUM_PROCESSES=two"),
        ({"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "2"}, "PROCESS_ID=2: less than"),
        ({"HEARTBEAT_TIMEOUT": "0"}, "HEARTBEAT_TIMEOUT=0"),
    ],
)
def test_wrong_environments_are_named(variables, said, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        distributed.initialise()


def test_the_launcher_refuses_what_it_does_not_understand():
    for words in (["2"], ["0", "--", "true"], ["2", "true"], ["x", "--", "true"], ["2", "--"]):
        done = subprocess.run(["bash", ROOT / "launch" / "local.sh", *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), words


def test_the_launcher_gives_every_process_its_number_and_hands_on_a_failure(tmp_path):
    script = 'echo "$PROCESS_ID of $NUM_PROCESSES"; [ "$PROCESS_ID" != 1 ] || { sleep 1; exit 7; }; exec sleep 60'
    began = time.monotonic()
    done = subprocess.run(
        ["bash", ROOT / "launch" / "local.sh", "3", "--", "bash", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 7 and time.monotonic() - began < 30
    assert sorted(done.stdout.split("\n")) == ["", "0 of 3", "1 of 3", "2 of 3"]


def test_the_kubernetes_job_is_valid():
    checked = [sys.executable, "-m", "kubernetes_validate", "--strict", str(ROOT / "launch" / "k8s-job.yaml")]
    done = subprocess.run(checked, capture_output=True, text=True)
    assert done.returncode == 0 and (done.stdout + done.stderr).count(" passed for ") == 2, done.stderr


SRUN = """\
#!/usr/bin/env bash
# Two tasks on this machine, as srun's would find their environment.
shift # --kill-on-bad-exit=1
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=1
for id in 0 1; do SLURM_PROCID=$id SLURM_LOCALID=$id "$@" & done
code=0
for id in 1 2; do wait -n || code=$?; done
exit $code
"""


@pytest.mark.slow
def test_slurm_is_found_out_and_the_job_goes_back_into_the_queue_after_a_signal(start, photos, tmp_path):
    """With stand-ins for srun, scontrol, and a python that trains the toy."""
    stand_ins = {
        "srun": SRUN,
        "scontrol": f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/queue\n',
        "python": f'#!/usr/bin/env bash\nshift 2\nexec {sys.executable} {ROOT}/tests/toy_main.py main "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(os.getpid()), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    words = command(photos, tmp_path / "run", "train.checkpoint_every=100000", "train.log_every=1")[3:]
    log = tmp_path / "log"

    def submit(steps: int) -> subprocess.Popen[bytes]:
        batch = ["bash", str(ROOT / "launch" / "slurm.sbatch"), *words, f"--config.train.steps={steps}"]
        return start(batch, log, **job)

    launcher = submit(100_000)
    wait_for("step 2/", log)
    os.kill(rank(1, tmp_path / "run", of="SLURM_PROCID"), signal.SIGTERM)
    reached = int(finish(launcher, log, code=42).split("stopped at step ")[1].split(",")[0])
    assert (tmp_path / "queue").read_text() == f"requeue {os.getpid()}\n"
    said = finish(submit(reached + 1), log, code=0)
    assert f"going on from step {reached}" in said and said.count("report: ") == 1
