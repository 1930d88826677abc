"""What a folder was trained with, and what a rerun in it may change: WORKDIR/config.json."""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from dpconv_jax import models
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole

# What a rerun may change: how long, how often and where, never what is trained or which of its steps is the best.
FREE = frozenset({
    "train.steps", "train.log_every", "train.image_every", "train.eval_every", "train.checkpoint_every", "train.keep",
    "train.devices", "data.dir", "data.manual_dir", "data.data_dir", "data.threads", "data.workers", "vgg.weights",
    "mask.dir", "eval.batch_size", "eval.baselines", "eval.bootstrap",
})  # fmt: skip


def remember(config: ConfigDict, workdir: pathlib.Path, *, step: int | None, write: bool = True) -> None:
    """Writes WORKDIR/config.json, where `step` is the newest checkpoint of `workdir`, None where there is none yet.

    Not `write`: only compares.

    A folder belongs to the config of its first checkpoint: until then a mistake can be corrected by running again.
    Raises UsageError where the folder belongs to another config, is beyond train.steps, or cannot be written.
    """
    path = workdir / "config.json"
    if step is not None:
        if not path.exists():
            raise UsageError(f"{workdir} holds checkpoints without their config.json; start in another workdir")
        compare(config, workdir)
        if config.train.steps < step:
            raise UsageError(f"train.steps is {config.train.steps}; it must be at least {step}, where {workdir} is")
    if not write:
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps({"format": models.FORMAT, **config.to_dict()}, indent=2) + "\n").encode())
    except OSError as error:
        raise UsageError(f"--workdir {workdir} cannot be written: {error.strerror}") from error


def compare(config: ConfigDict, workdir: pathlib.Path, *, free: frozenset[str] = FREE) -> None:
    """UsageError naming every field in which `workdir` was trained otherwise, those of `free` apart."""
    path = workdir / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop("format", None)
        model = models.named_in(written, content["model"]["name"], content["model"])
        theirs = flatten(content)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error}; start in another workdir") from error
    if "released_order" in model:
        raise UsageError(
            f"{workdir} holds a run of what {model['variant']!r} was before it was Fig. 3: the decoder of the released "
            "code. load() and inpaint take it as it is; train in another --workdir"
        )
    ours = flatten(json.loads(json.dumps(config.to_dict())))
    differing = [
        f"{name} was {json.dumps(theirs.get(name))}, is {json.dumps(ours.get(name))}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and name not in free
    ]
    if differing:
        raise UsageError(f"{workdir} holds a run of another config: {'; '.join(differing)}; use another --workdir")


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{below}": leaf for below, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat
