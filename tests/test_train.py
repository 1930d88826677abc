"""The training step and the loop: gradients, devices, resume, skipped steps, signals, refused configs."""

import hashlib
import json
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image
from toy import SIZE, Toy, flat_vgg, rate, tiny, twenty_photos, weight_file

from dpconv_jax import distributed
from dpconv_jax.checkpoints import Checkpoints
from dpconv_jax.data import pipeline
from dpconv_jax.errors import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.signals import Stop
from dpconv_jax.training import experiment, steps, train
from dpconv_jax.weights import model_file

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy among the generators."""
    monkeypatch.setitem(GENERATORS, "toy", Toy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Twenty little photos."""
    return twenty_photos(tmp_path_factory.mktemp("photos"))


def batch(seed: int) -> steps.Batch:
    image_key, mask_key = jax.random.split(jax.random.key(seed))
    image = jax.image.resize(jax.random.uniform(image_key, (4, 4, 4, 3)), (4, SIZE, SIZE, 3), "linear")
    holes = jax.random.bernoulli(mask_key, 0.3, (4, 4, 4, 1)).astype(jnp.float32)
    return {"image": image, "mask": 1 - jax.image.resize(holes, (4, SIZE, SIZE, 1), "nearest")}


def digest(tree: steps.Tree) -> str:
    """One hash of every leaf, and of where it hangs."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        total.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return total.hexdigest()


def distance(one: steps.Tree, other: steps.Tree) -> float:
    """Of two trees, relative to the first."""
    return float(optax.tree.norm(optax.tree.sub(one, other)) / optax.tree.norm(one))


def step_of(config: ConfigDict):
    """A compiled step, and the state it starts from."""
    gan = steps.build(config)
    step = jax.jit(lambda state, batch: steps.train_step(gan, rate(config), state, batch, None, False))
    return step, steps.initialise(gan)


def test_bytes_are_floats_by_the_time_a_step_looks():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3) * 5
    mask = np.eye(4, dtype=np.uint8)[None, ..., None]
    of_bytes = steps.floats({"image": jnp.asarray(image), "mask": jnp.asarray(mask)})
    assert {name: array.dtype for name, array in of_bytes.items()} == {"image": jnp.float32, "mask": jnp.float32}
    np.testing.assert_allclose(of_bytes["image"], image / 255, rtol=1e-6)
    np.testing.assert_array_equal(of_bytes["mask"], mask)
    again = steps.floats(of_bytes)
    assert all(np.array_equal(again[name], of_bytes[name]) for name in again)


@pytest.mark.slow
def test_steps_of_the_real_network_learn_and_move_everything():
    config = tiny(name="dpconv")
    config.model.dropout = 0.0
    config.optim.generator_lr = 2e-3
    step, first = step_of(config)
    state, rows = first, []
    for number in range(12):
        state, metrics = step(state, batch(0))
        assert int(state.step) == number + 1
        rows.append({name: float(value) for name, value in metrics.items()})
    assert rows[-1]["total"] < 0.9 * rows[0]["total"]
    for name in ("generator", "discriminator", "discriminator_stats", "ema"):
        assert distance(getattr(first, name), getattr(state, name)) > 1e-4, name
    # The average lags behind the weights it follows.
    assert state.best_generator is state.ema
    assert 0 < distance(state.generator, state.ema) < distance(state.generator, first.generator)
    for row in rows:
        assert row["pixel"] + row["style"] + row["adversarial"] + row["tv"] == pytest.approx(row["total"], rel=1e-5)
        assert row["style"] == row["skipped"] == 0.0 < min(row["pixel"], row["adversarial"], row["tv"])
        assert row["adversarial"] < 0.1 < row["pixel"]  # weighted: 1e-3 of about 1, against 10 of about 0.2


def test_one_forward_pass_gives_the_gradient_of_the_whole_loss():
    """The gradient pulled back from I_out is jax.grad of Eq. (5) as a function of the generator's parameters."""
    config = tiny()
    config.model.dropout = 0.0
    config.loss.adversarial = 0.5  # so that every term shows in the sum
    config.loss.tv = 0.5
    config.optim.clip_norm = 0.0
    config.loss.style = 120.0
    gan = steps.build(config)
    state = steps.initialise(gan)
    vgg = flat_vgg()

    @jax.jit
    def both(state: steps.GanState, batch: steps.Batch, vgg: VGG16):
        new, metrics = steps.train_step(gan, rate(config), state, batch, vgg, False)

        def whole(params: steps.Tree) -> jax.Array:
            images, _ = steps.generate(gan, params, state.generator_stats, batch)
            # As train_step does: the discriminator is the updated one, its statistics are not touched.
            total, _ = steps.generator_loss(
                gan,
                images,
                batch,
                vgg=vgg,
                discriminator=new.discriminator,
                stats=new.discriminator_stats,
            )
            return total

        value, gradient = jax.value_and_grad(whole)(state.generator)
        return new, metrics, value, gradient

    new, metrics, value, gradient = both(state, batch(0), vgg)
    assert float(metrics["total"]) == pytest.approx(float(value), rel=1e-5)
    assert float(metrics["style"]) > 0
    # Adam's first moment after one step from zero is (1 - b1) times the gradient that was used.
    used = jax.tree.map(lambda moment: moment / (1 - config.optim.b1), new.generator_optimizer[0].mu)
    assert distance(gradient, used) < 1e-4


def test_neither_network_moves_by_the_other_ones_step():
    config = tiny()
    config.model.dropout = 0.0
    config.optim.generator_lr = 0.0
    gan = steps.build(config)
    state = steps.initialise(gan)

    @jax.jit
    def run(state: steps.GanState, batch: steps.Batch):
        new, _ = steps.train_step(gan, rate(config), state, batch, None, False)

        def of_generator(params: steps.Tree) -> tuple[jax.Array, steps.Tree]:
            (fake,), _ = steps.generate(gan, params, state.generator_stats, batch)
            return steps.discriminator_loss(
                gan,
                state.discriminator,
                state.discriminator_stats,
                batch,
                fake=fake,
                key=jax.random.key(0),
            )

        leak, statistics = jax.grad(of_generator, has_aux=True)(state.generator)
        return new, leak, statistics

    new, leak, statistics = run(state, batch(0))
    assert digest(new.generator) == digest(state.generator)
    assert distance(state.discriminator, new.discriminator) > 1e-5
    assert float(optax.tree.norm(leak)) == 0.0
    # They saw the real and the fake batch of the discriminator's own step, and not the generator's pass through it.
    assert distance(statistics, new.discriminator_stats) < 1e-6


def test_without_the_adversarial_term_the_discriminator_rests():
    config = tiny()
    config.loss.adversarial = 0.0
    config.loss.tv = 0.0
    gan = steps.build(config)
    state = steps.initialise(gan)
    new, metrics = jax.jit(lambda state: steps.train_step(gan, rate(config), state, batch(0), None, False))(state)
    assert digest(new.discriminator) == digest(state.discriminator)
    assert digest(new.discriminator_stats) == digest(state.discriminator_stats)
    assert float(metrics["total"]) == float(metrics["pixel"]) > 0


def test_a_step_without_finite_gradient_leaves_everything_but_its_number():
    step, state = step_of(tiny())
    state, _ = step(state, batch(0))
    bad = batch(1)
    bad["image"] = bad["image"].at[0, 0, 0, 0].set(jnp.nan)
    new, metrics = step(state, bad)
    assert float(metrics["skipped"]) == 1.0
    assert int(new.step) == 2
    assert digest(new.replace(step=0)) == digest(state.replace(step=0))
    healed, metrics = step(new, batch(1))
    assert float(metrics["skipped"]) == 0.0
    assert distance(new.generator, healed.generator) > 0


@pytest.mark.slow
def test_bfloat16_computes_close_to_float32_and_keeps_float32_state():
    totals = {}
    for dtype in ("float32", "bfloat16"):
        config = tiny()
        config.train.dtype = dtype
        step, state = step_of(config)
        new, metrics = step(state, batch(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32"), jnp.dtype("int32")}
        totals[dtype] = float(metrics["total"])
    assert totals["bfloat16"] == pytest.approx(totals["float32"], rel=0.02)
    assert totals["bfloat16"] != totals["float32"]


def test_clipping_bounds_the_gradient_that_adam_sees():
    config = tiny()
    config.optim.clip_norm = 0.01
    optimizer = steps.build(config).generator_optimizer
    params = {"kernel": jnp.zeros(4)}
    _, after = optimizer.update({"kernel": jnp.full(4, 3.0)}, optimizer.init(params))
    assert float(optax.tree.norm(after[1].mu)) == pytest.approx(0.01 * (1 - config.optim.b1), rel=1e-5)


@pytest.mark.slow
def test_four_devices_make_the_step_of_one():
    config = tiny()
    gan = steps.build(config)
    results = []
    for devices in (1, 4):
        mesh = distributed.data_mesh(devices)
        state = jax.device_put(steps.initialise(gan), distributed.replicated(mesh))
        step = train.compile_step(gan, rate(config), mesh)
        for seed in range(2):
            arrays = distributed.to_devices({name: np.asarray(value) for name, value in batch(seed).items()}, mesh)
            state, metrics = step(state, arrays, None, False)
        assert all(len(leaf.sharding.device_set) == devices for leaf in jax.tree.leaves(state))
        results.append((jax.device_get(state), float(metrics["total"])))
    (one, loss_of_one), (four, loss_of_four) = results
    assert loss_of_four == pytest.approx(loss_of_one, rel=1e-4)
    assert distance(one.generator_optimizer[-1].mu, four.generator_optimizer[-1].mu) < 1e-3
    assert distance(one.discriminator_optimizer.mu, four.discriminator_optimizer.mu) < 1e-3
    assert distance(one.discriminator_stats, four.discriminator_stats) < 1e-4


@pytest.mark.parametrize(
    ("name", "step", "factor"),
    [("constant", 50, 1.0), ("exponential", 25, 0.81), ("cosine", 50, 0.5), ("cosine", 100, 0.0), ("constant", 4, 0.5)],
)
def test_schedules(name: str, step: int, factor: float):
    optim = tiny().optim
    optim.schedule = name
    optim.warmup_steps = 10
    assert float(steps.schedule(optim, steps=100, steps_per_epoch=10)(jnp.int32(step))) == pytest.approx(
        factor, abs=1e-6
    )


# ---- the loop ----


def run(config: ConfigDict, folder: pathlib.Path, workdir: pathlib.Path) -> steps.GanState:
    """Trains in this process on one device, then gives the state as the newest checkpoint has it."""
    config.data.dir = str(folder)
    config.train.devices = 1
    train.train_and_evaluate(config, workdir, command="a test")
    return newest(config, workdir)


def newest(config: ConfigDict, workdir: pathlib.Path) -> steps.GanState:
    gan = steps.build(config)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=3)
    try:
        return checkpoints.restore_newest(steps.initialise(gan))
    finally:
        checkpoints.close()


def test_the_loop_writes_what_it_promises_and_resumes_exactly(folder, tmp_path, capsys):
    config = tiny()
    config.train.steps = 6
    whole = run(config, folder, tmp_path / "whole")
    output = capsys.readouterr().out
    assert "step 1/6  loss" in output and "loss terms off: style" in output
    assert "report:" in output

    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"config.json", "checkpoints", "metrics.jsonl", "tb", "samples", "eval", "report.md", "report.png"}
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train/total" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val/l1" in row] == [6]
    assert 0 < rows[-1]["val/l1"] < 100
    with Image.open(tmp_path / "whole" / "samples" / "validation-0000006.png") as grid:
        assert grid.size == (5 * SIZE + 4 * 2, 3 * 2 * SIZE + 5 * 2)  # at most two images a bucket; gaps of 2

    config.train.steps = 3
    run(config, folder, tmp_path / "broken")
    config.train.steps = 6
    resumed = run(config, folder, tmp_path / "broken")
    assert "going on from step 3" in capsys.readouterr().out
    assert int(resumed.step) == 6
    assert digest(resumed) == digest(whole)


def test_photos_may_have_names_that_are_not_utf8(tmp_path):
    for photo in [*twenty_photos(tmp_path / "photos").iterdir()]:
        photo.rename(photo.with_stem(f"{photo.stem}\udce9"))  # in Latin-1
    config = tiny()
    config.train.steps = 1
    run(config, tmp_path / "photos", tmp_path / "run")
    assert b"\xe9.png" in (tmp_path / "run" / "eval" / "metrics.csv").read_bytes()
    assert (tmp_path / "run" / "report.md").exists()


def test_a_training_begins_with_a_given_generator(folder, tmp_path):
    config = tiny()
    config.train.steps = 2
    before = run(config, folder, tmp_path / "before")
    metadata = model_file.Metadata(model="toy", options={"dropout": 0.1}, size=SIZE, step=2)
    model_file.save(tmp_path / "before.safetensors", jax.tree.map(np.asarray, before.best_generator), metadata)
    config.train.init = str(tmp_path / "before.safetensors")
    config.optim.generator_lr = 1e-9
    after = run(config, folder, tmp_path / "after")
    assert int(after.step) == 2
    assert distance(before.best_generator, after.best_generator) < 1e-6 < distance(before.generator, after.generator)
    assert distance(before.discriminator, after.discriminator) > 1e-6
    (tmp_path / "before.safetensors").unlink()
    config.train.steps = 3
    assert int(run(config, folder, tmp_path / "after").step) == 3  # what it began with is not asked for again


def test_a_generator_of_another_kind_is_no_beginning(tmp_path):
    config = tiny(name="dpconv")
    config.train.init = str(weight_file(tmp_path / "other.safetensors", dilations=(1, 2, 3, 1)))
    state = steps.initialise(steps.build(config))
    with pytest.raises(UsageError, match=r"model\.dilations is \(1, 1, 1, 1\), there \(1, 2, 3, 1\)$"):
        train.init_from_weights(config, state)
    config.train.init = "starter"
    with pytest.raises(UsageError, match=r"train\.init is starter, weights of what 'prefilled' was before .* released"):
        train.init_from_weights(config, state)
    config.model = ConfigDict({"name": "pconv", "variant": "liu2018", "width": 0.0625})  # the deeper, the larger
    path = tmp_path / "pconv.safetensors"
    for size, fault in ((16, "is missing"), (64, "is unexpected")):
        weight_file(path, model="pconv", options={"variant": "liu2018", "width": 0.0625}, size=size)
        config.train.init = str(path)
        with pytest.raises(UsageError, match=f"pconv.safetensors does not fit its model: .* {fault}"):
            train.init_from_weights(config, steps.initialise(steps.build(config)))
    config.train.init = str(tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match="no such weight file"):
        train.init_from_weights(config, state)


@pytest.mark.slow
def test_the_style_term_starts_when_the_config_says(folder, tmp_path):
    vgg = flat_vgg()
    arrays = {f"{name}/kernel": kernel for name, kernel in vgg.kernels.items()}
    arrays |= {f"{name}/bias": bias for name, bias in vgg.biases.items()}
    np.savez(tmp_path / "vgg.npz", convention="torchvision", **arrays)
    config = tiny()
    config.loss.style = 120.0
    config.vgg.start = 2
    config.vgg.weights = str(tmp_path / "vgg.npz")
    run(config, folder, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    style = [row["train/style"] for row in rows if "train/style" in row]
    assert style[:2] == [0, 0] and min(style[2:]) > 0 and len(style) == 4
    text = (tmp_path / "run" / "report.md").read_text()
    assert "style from step 3 on" in text and "`vgg.npz`" in text and "divided by 1," in text


def test_a_request_to_stop_ends_an_evaluation_between_two_batches():
    stop = Stop()
    with stop.listening(), stop.deferred():
        validation = train.Validation(lambda bucket: iter([{"bucket": bucket}] * 3), "validation", images=3, rounds=3)
        batches = validation.heeding(stop)(2)
        assert next(batches) == {"bucket": 2}
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit) as end:
            next(batches)
    assert end.value.code == 42


def test_a_finished_run_only_evaluates_again(folder, tmp_path, monkeypatch):
    splits = []

    def opened(config, split, *, real=experiment.open_source):
        splits.append(split)
        return real(config, split)

    monkeypatch.setattr(experiment, "open_source", opened)
    config = tiny()
    config.train.steps = 2
    state = run(config, folder, tmp_path)
    assert splits == ["train", "validation"]  # once each
    (tmp_path / "report.md").unlink()
    lines = (tmp_path / "metrics.jsonl").read_text()
    config.eval.examples = 1  # in training this one is fixed, as it decides which step is the best
    train.evaluate_only(config, tmp_path, command="a test")
    assert splits[2:] == ["validation"]
    config.eval.examples = 0
    assert (tmp_path / "report.md").exists()
    assert (tmp_path / "metrics.jsonl").read_text() == lines
    assert digest(run(config, folder, tmp_path)) == digest(state)


def test_other_configs_are_refused_by_field_and_free_ones_taken(folder, tmp_path):
    config = tiny()
    config.train.steps = 1
    run(config, folder, tmp_path)
    before = (tmp_path / "config.json").read_text()
    config.optim.generator_lr = 1e-3
    config.data.size = 64
    with pytest.raises(UsageError) as refusal:
        train.train_and_evaluate(config, tmp_path, command="")
    message = str(refusal.value)
    assert "data.size was 32, is 64" in message
    assert "optim.generator_lr was 0.0002, is 0.001" in message
    assert "\n" not in message
    assert (tmp_path / "config.json").read_text() == before

    config.optim.generator_lr = 2e-4
    config.data.size = 32
    config.train.steps = 2
    config.train.log_every = config.train.checkpoint_every = 7
    config.train.keep = 1
    config.data.threads = 2
    config.eval.bootstrap = 5
    config.eval.batch_size = 3
    assert int(run(config, folder, tmp_path).step) == 2
    assert json.loads((tmp_path / "config.json").read_text())["train"]["keep"] == 1


def test_twenty_bad_steps_in_a_row_end_the_run_and_the_checkpoint_stays(folder, tmp_path, monkeypatch):
    config = tiny()
    config.train.steps = 2
    good = run(config, folder, tmp_path)
    real = pipeline.train_batches

    def poisoned(*args, **options):
        batches = real(*args, **options)

        class Poisoned:
            def close(self):
                batches.close()

            def __next__(self):
                batch = next(batches)
                return {**batch, "image": batch["image"] * np.nan}

        return Poisoned()

    monkeypatch.setattr(pipeline, "train_batches", poisoned)
    config.train.steps = 60
    config.train.checkpoint_every = 1000
    with pytest.raises(UsageError, match=r"20 steps in a row, up to step 22 \(images \d+\.png, .*\d+\.png\)"):
        run(config, folder, tmp_path)
    assert digest(newest(config, tmp_path)) == digest(good)


def test_a_signal_saves_the_step_and_the_next_run_goes_on(folder, tmp_path, monkeypatch, capsys):
    config = tiny()
    config.train.steps = 6
    whole = run(config, folder, tmp_path / "whole")
    real = pipeline.train_batches

    def interrupting(*args, **options):
        batches = real(*args, **options)

        class Interrupting:
            served = 0

            def close(self):
                batches.close()

            def __next__(self):
                self.served += 1
                if self.served == 3:  # while the third step is on its way
                    os.kill(os.getpid(), signal.SIGTERM)
                return next(batches)

        return Interrupting()

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train_batches", interrupting)
        with pytest.raises(SystemExit) as end:
            run(config, folder, tmp_path / "stopped")
    assert end.value.code == 42
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert "stopped at step 3, which is saved" in capsys.readouterr().out
    assert int(newest(config, tmp_path / "stopped").step) == 3
    assert digest(run(config, folder, tmp_path / "stopped")) == digest(whole)
