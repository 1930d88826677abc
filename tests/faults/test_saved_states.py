"""Checkpoints after kills, after damage to each of their files, and on other numbers of devices."""

import logging
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest
from saver import content
from toy import Toy, tiny, twenty_photos

from dpconv_jax import distributed
from dpconv_jax.checkpoints import Checkpoints, newest_step
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.trees import Tree
from dpconv_jax.training import steps, train
from dpconv_jax.training.experiment import Experiment

SAVER = pathlib.Path(__file__).with_name("saver.py")
KILLS = 20


def restored(folder: pathlib.Path, like: Tree) -> Tree:
    """What a training would go on from."""
    checkpoints = Checkpoints(folder, keep=2)
    try:
        return checkpoints.restore_newest(like)
    finally:
        checkpoints.close()


def equal(one: Tree, other: Tree) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def eventually(holds: Callable[[], bool]) -> bool:
    """Orbax removes what a save left behind in a thread, which nobody waits for but the next save."""
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_kills_during_saves_lose_nothing_that_was_saved(tmp_path):
    rng, folder = random.Random(0), tmp_path / "checkpoints"
    within = 0
    for _ in range(KILLS):
        saver = subprocess.Popen([sys.executable, SAVER, folder], stdout=subprocess.PIPE, text=True)
        assert saver.stdout is not None
        said = saver.stdout.readline()  # it saves from now on
        time.sleep(rng.uniform(0, 0.5))
        saver.kill()
        said += saver.communicate()[0]
        saved = int(said[: said.rindex("\n")].split()[-1])
        left = [path.name for path in folder.iterdir()]
        within += any("tmp" in name for name in left) or max(int(n) for n in left if n.isdecimal()) > saved
        state = restored(folder, content(0))
        assert int(state["step"]) in (saved, saved + 1) and equal(state, content(int(state["step"])))
        assert eventually(lambda: all(path.name.removesuffix(".unfinished").isdecimal() for path in folder.iterdir()))
    print(f"{KILLS} kills, {within} of them within a save: {KILLS} of {KILLS} restored bit by bit")
    assert within >= KILLS / 4


# ---- damage ----


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: pathlib.Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


def grow(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


DAMAGES: list[Callable[[pathlib.Path], None]] = [cut, flip, grow, pathlib.Path.unlink]


def test_damage_to_any_file_is_noticed_and_the_step_before_it_taken(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "whole", keep=2)
    for step in (1, 2):
        checkpoints.save(step, content(step), metric=1 / step)
    checkpoints.close()
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    noticed = 0
    for damage in DAMAGES:
        for name in names:
            folder = tmp_path / "copy"
            shutil.copytree(tmp_path / "whole", folder)
            damage(folder / name)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert equal(restored(folder, content(0)), content(1)), (damage, name)
            assert name.name in caplog.text or "was never finished" in caplog.text
            shutil.rmtree(folder)
            noticed += 1
    print(f"{noticed} damages to {len(names)} files: all noticed, none loaded")
    assert noticed == len(DAMAGES) * len(names) >= 20


def test_no_flipped_bit_changes_what_a_manifest_says(tmp_path):
    """Of its metric, for example, which says what step is the best."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2):
        checkpoints.save(step, content(step), metric=1 / step)
    checkpoints.close()
    path = tmp_path / "checkpoints" / "2" / "manifest.json"
    whole = path.read_bytes()
    digits = whole.index(b"0.5")
    for place in (*range(digits, digits + 3), *range(0, len(whole), 29)):
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "checkpoints", folder)
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (folder / "2" / "manifest.json").write_bytes(damaged)
        state = restored(folder, content(0))
        assert equal(state, content(1)) or (equal(state, content(2)) and b'"metric": 0.5' in damaged), place
        shutil.rmtree(folder)


# ---- devices ----


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_a_training_on_two_devices_goes_on_with_others(devices, tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATORS, "toy", Toy)
    config = tiny()
    config.data.dir = str(twenty_photos(tmp_path))
    experiment = Experiment.of(config)
    gan = experiment.gan

    def placed(count: int) -> steps.GanState:
        return jax.device_put(steps.initialise(gan), distributed.replicated(distributed.data_mesh(count)))

    mesh, state = distributed.data_mesh(2), placed(2)
    step, batches = train.compile_step(gan, experiment.learning_rate, mesh), experiment.batches(start=0)
    for _ in range(2):
        batch = next(batches)
        arrays = distributed.to_devices({name: batch[name] for name in ("image", "mask")}, mesh)
        state, _ = step(state, arrays, None, False)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(2, state)
    checkpoints.close()

    assert newest_step(tmp_path) == 2
    again = restored(tmp_path / "checkpoints", placed(devices))
    assert equal(again, state)
    assert all(len(leaf.sharding.device_set) == devices for leaf in jax.tree.leaves(again))
    following = next(experiment.batches(start=int(again.step)))
    expected = next(batches)
    assert all(np.array_equal(following[name], expected[name]) for name in expected)
