"""Checkpoints survive what happens to files: cut, flipped, deleted, a full disk; and the best is kept."""

import errno
import json
import logging
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dpconv_jax import distributed
from dpconv_jax.checkpoints import Checkpoints, newest_step, restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.training.steps import GanState


def state(step: int, *, ema: bool = True) -> GanState:
    """Every leaf tells its step; keys are strings and, as in lists of layers, integers."""
    weights = {"e0": {"kernel": jnp.full((3, 3, 2, 4), step, jnp.float32)}}
    stats = {"norms": {0: {"mean": jnp.full(2, step / 8)}}}
    return GanState(
        step=jnp.int32(step),
        generator=weights,
        generator_stats=stats,
        discriminator={"convs": {0: {"kernel": jnp.full(5, step, jnp.float32)}, 1: {"kernel": jnp.ones(2)}}},
        discriminator_stats={"norms": {0: {"mean": jnp.full(3, step / 2)}}},
        generator_optimizer=({"mu": jnp.full(4, step / 4)},),
        discriminator_optimizer=(),
        ema=jax.tree.map(lambda leaf: leaf + 0.5, weights | stats) if ema else None,
    )


def saved(workdir: pathlib.Path, metrics: dict[int, float | None], *, keep: int = 10, ema: bool = True) -> list[int]:
    """Saves a state a step; returns the steps that are there in the end."""
    (workdir / "config.json").write_text('{"model": {"name": "dpconv"}}')
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep)
    for step, metric in metrics.items():
        checkpoints.save(step, state(step, ema=ema), metric=metric)
    checkpoints.close()
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())


def restored(workdir: pathlib.Path, *, ema: bool = True) -> GanState:
    checkpoints = Checkpoints(workdir / "checkpoints", keep=10)
    try:
        return checkpoints.restore_newest(state(0, ema=ema))
    finally:
        checkpoints.close()


def equal(one: GanState, other: GanState) -> bool:
    same_shape = jax.tree.structure(one) == jax.tree.structure(other)
    return same_shape and all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(step: pathlib.Path) -> None:
    path = largest_file(step)
    path.write_bytes(path.read_bytes()[:-1])


def flip(step: pathlib.Path) -> None:
    path = largest_file(step)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def delete(step: pathlib.Path) -> None:
    largest_file(step).unlink()


def replace_by_folder(step: pathlib.Path) -> None:
    path = largest_file(step)
    path.unlink()
    path.mkdir()


def spoil_manifest(step: pathlib.Path) -> None:
    (step / "manifest.json").write_text('{"metric": nul')


def unhash_manifest(step: pathlib.Path) -> None:
    path = step / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "metric": 0.0, "own_sha256": ""}))


def rename_hash(step: pathlib.Path) -> None:
    path = step / "manifest.json"
    path.write_text(path.read_text().replace("own_sha256", "own_sha356"))


def test_what_is_saved_comes_back(tmp_path):
    assert saved(tmp_path, {3: None, 7: 1.5}) == [3, 7]
    assert equal(restored(tmp_path), state(7))


def test_nothing_saved_gives_back_what_was_asked_with(tmp_path):
    assert equal(restored(tmp_path), state(0))


@pytest.mark.parametrize(
    "damage", [truncate, flip, delete, replace_by_folder, spoil_manifest, unhash_manifest, rename_hash]
)
def test_a_damaged_step_is_named_and_the_one_before_it_used(damage, tmp_path, caplog):
    saved(tmp_path, {1: None, 2: 0.5})
    folder = tmp_path / "checkpoints"
    damage(folder / "2")
    with caplog.at_level(logging.WARNING):
        params, _, step = restore_generator(tmp_path, step="best")
        assert step == 1
        assert params["e0"]["kernel"].flat[0] == 1.5
        assert (folder / "2").exists()  # reading moves nothing
        assert equal(restored(tmp_path), state(1))
    assert [str(folder / "2") in record.message for record in caplog.records] == [True, True]
    # Training goes on from 1 and comes by 2 again.
    assert (folder / "2.damaged").is_dir()
    saved(tmp_path, {2: None})
    assert equal(restored(tmp_path), state(2))


@pytest.mark.parametrize("earlier", [[], [1]], ids=["first", "later"])
def test_a_step_without_manifest_was_never_finished(earlier, tmp_path, caplog):
    """The process was killed between the state and its manifest: training goes on as if that save had not begun."""
    saved(tmp_path, dict.fromkeys([*earlier, 2]))
    folder = tmp_path / "checkpoints"
    (folder / "2" / "manifest.json").unlink()
    assert newest_step(tmp_path) == max(earlier, default=None)
    if earlier:
        assert restore_generator(tmp_path)[2] == 1
    else:
        with pytest.raises(UsageError, match="holds no checkpoint"):
            restore_generator(tmp_path)
    assert not caplog.records  # it may just be being saved
    with caplog.at_level(logging.WARNING):
        assert equal(restored(tmp_path), state(max(earlier, default=0)))
    assert [f"{folder / '2'} was never finished" in record.message for record in caplog.records] == [True]
    assert (folder / "2.unfinished").is_dir()
    assert saved(tmp_path, {2: None}) == [*earlier, 2]
    assert equal(restored(tmp_path), state(2))


def test_the_step_set_aside_is_saved_by_the_same_run(tmp_path):
    saved(tmp_path, {2: None})
    (tmp_path / "checkpoints" / "2" / "manifest.json").unlink()
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    assert equal(checkpoints.restore_newest(state(0)), state(0))
    checkpoints.save(2, state(2))
    checkpoints.close()
    assert equal(restored(tmp_path), state(2))


def test_a_file_that_may_not_be_read_is_damage(tmp_path, monkeypatch):
    saved(tmp_path, {1: None})

    def forbidden(path: pathlib.Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("dpconv_jax.checkpoints._sha256", forbidden)
    with pytest.raises(UsageError, match=r"step 1: .* cannot be read: Permission denied"):
        restore_generator(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_config_is_named(content, tmp_path):
    saved(tmp_path, {1: None})
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"config\.json is damaged: .") as refusal:
        restore_generator(tmp_path)
    assert "\n" not in str(refusal.value)


def test_where_every_step_is_damaged_nothing_is_started_anew(tmp_path):
    saved(tmp_path, {1: None, 2: None})
    for step in "12":
        flip(tmp_path / "checkpoints" / step)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"no intact checkpoint under .*step 1: .* has changed; step 2: .*changed"):
            restored(tmp_path)
    with pytest.raises(UsageError, match="no intact checkpoint"):
        restore_generator(tmp_path)


def test_the_newest_and_the_best_are_kept(tmp_path):
    assert saved(tmp_path, {1: 3.0, 2: 1.0, 3: None, 4: 2.0, 5: float("nan"), 6: None}, keep=2) == [2, 5, 6]
    assert restore_generator(tmp_path, step="best")[2] == 2
    assert restore_generator(tmp_path)[2] == 6
    assert restore_generator(tmp_path, step=5)[2] == 5
    with pytest.raises(UsageError, match="no checkpoint of step 4; it has 2, 5, 6"):
        restore_generator(tmp_path, step=4)


def test_a_kill_while_an_old_step_goes_leaves_no_damage(tmp_path, monkeypatch, caplog):
    real = shutil.rmtree

    def killed(path: pathlib.Path) -> None:
        real(path / "default")
        raise KeyboardInterrupt

    monkeypatch.setattr("dpconv_jax.checkpoints.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, {1: None, 2: None}, keep=1)
    monkeypatch.undo()
    assert restore_generator(tmp_path, step="best")[2] == 2
    with caplog.at_level(logging.WARNING):
        assert equal(restored(tmp_path), state(2))
    assert not caplog.records
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


@pytest.mark.parametrize("worst", [float("nan"), float("inf"), float("-inf"), None])
def test_a_metric_that_is_not_finite_is_never_the_best(worst, tmp_path):
    assert saved(tmp_path, {1: 9.0, 2: worst, 3: worst}, keep=1) == [1, 3]
    assert restore_generator(tmp_path, step="best")[2] == 1


def test_without_metrics_the_newest_is_the_best(tmp_path):
    saved(tmp_path, {1: None, 2: None})
    assert restore_generator(tmp_path, step="best")[2] == 2


def test_a_metric_can_be_added_to_a_saved_step(tmp_path):
    saved(tmp_path, {1: None, 2: 5.0})
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=10)
    assert checkpoints.metric(1) is None
    checkpoints.save(1, state(99), metric=2.0)
    assert checkpoints.metric(1) == 2.0
    checkpoints.close()
    params, _, step = restore_generator(tmp_path, step="best")
    assert (step, params["e0"]["kernel"].flat[0]) == (1, 1.5)  # the state is the one saved first


def test_the_generator_alone_is_read_averaged_where_there_is_an_average(tmp_path):
    for ema, value in ((True, 4.5), (False, 4.0)):
        workdir = tmp_path / str(ema)
        workdir.mkdir()
        saved(workdir, {4: None}, ema=ema)
        params, config, step = restore_generator(workdir)
        assert (config, step) == ({"model": {"name": "dpconv"}}, 4)
        assert type(params["e0"]["kernel"]) is np.ndarray
        np.testing.assert_array_equal(params["e0"]["kernel"], np.full((3, 3, 2, 4), value, np.float32))


def test_a_folder_without_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no checkpoint"):
        restore_generator(tmp_path)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        restore_generator(tmp_path / "nowhere")


@pytest.mark.parametrize("failing", ["orbax", "manifest"])
def test_a_full_disk_is_the_users_matter_and_loses_nothing(failing, tmp_path, monkeypatch):
    saved(tmp_path, {1: None})
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "orbax":
        monkeypatch.setattr(checkpoints._manager, "save", full)
    else:
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="no space left for checkpoint 2"):
        checkpoints.save(2, state(2))
    checkpoints.close()
    monkeypatch.undo()
    assert equal(restored(tmp_path), state(1))


def test_a_state_saved_by_four_devices_is_read_by_one(tmp_path):
    everywhere = jax.device_put(state(5), distributed.replicated(distributed.data_mesh(4)))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(5, everywhere)
    checkpoints.close()
    single = restored(tmp_path)
    assert equal(single, state(5))
    assert len(single.step.sharding.device_set) == 1


def test_the_manifest_names_every_file(tmp_path):
    saved(tmp_path, {1: 2.5})
    folder = tmp_path / "checkpoints" / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert manifest["metric"] == 2.5
    assert set(manifest["sha256"]) == files - {"manifest.json"}
