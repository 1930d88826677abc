"""Saves one checkpoint after another until it is killed: a program for test_saved_states.py.

python tests/faults/saver.py FOLDER
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

from dpconv_jax.checkpoints import Checkpoints
from dpconv_jax.models.trees import Tree


def content(step: int) -> Tree:
    """Four megabytes in eight arrays that only this step has."""
    rng = np.random.default_rng(step)
    arrays = {f"layer{index}": rng.random(2**17, np.float32) for index in range(8)}
    return jax.tree.map(jnp.asarray, {"step": np.int32(step), **arrays})


def main(folder: str) -> None:
    """Says `saved STEP` after each."""
    checkpoints = Checkpoints(folder, keep=2)
    step = int(checkpoints.restore_newest(content(0))["step"])
    while True:
        step += 1
        checkpoints.save(step, content(step))
        print(f"saved {step}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
