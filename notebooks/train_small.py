# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -all
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A short training, watched
#
# The command of the README trains a small network while this notebook draws its curves; then it shows what the network
# made of the same holes as it learned.
#
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/dpconv-jax/dpconv_jax/blob/main/notebooks/train_small.ipynb
#
# Images are NHWC with pixels in [0, 1]; in a mask **1 is valid and 0 is a hole**.
#
# The first cell installs the package from its repository where the notebook runs in Colab, and does nothing elsewhere.
# pip replaces Colab's jax only where it is older than the package needs; the constraint makes pip stop rather than
# install an older one.

# %%
import sys

if "google.colab" in sys.modules:
    from importlib.metadata import version

    with open("constraints.txt", "w") as constraints:
        constraints.writelines(f"{name}>={version(name)}\n" for name in ("jax", "jaxlib"))
    # !git clone --quiet --depth 1 https://github.com/dpconv-jax/dpconv_jax
    # %pip install --quiet --constraint constraints.txt --editable ./dpconv_jax
    sys.path.insert(0, "dpconv_jax")  # a kernel that already runs does not see an editable installation by itself

# %%
import os
import pathlib
import subprocess
import time

import numpy as np
from IPython.display import Image as Picture
from IPython.display import display
from matplotlib import pyplot as plt
from PIL import Image

from dpconv_jax.configs import dpconv as recipes
from dpconv_jax.data.synthetic import painting
from dpconv_jax.training.writers import GAP, read_scalars

# %% [markdown]
# ## Photos
#
# Garments drawn by code, or a folder of your own: any tree of images will do.

# %%
photos, workdir = pathlib.Path("runs/photos"), pathlib.Path("runs/small")
photos.mkdir(parents=True, exist_ok=True)
for index in range(160):
    pixels, _, _ = painting.draw(np.random.default_rng(index), size=128)
    Image.fromarray(pixels).save(photos / f"{index:03}.png")

show = [Image.open(photos / f"{index:03}.png") for index in range(10)]
strip = Image.new("RGB", (128 * len(show), 128))
for place, photo in enumerate(show):
    strip.paste(photo, (128 * place, 0))
display(strip)

# %% [markdown]
# ## Training
#
# The recipe of `configs/dpconv.py` at 64x64, narrower and shorter; each `--config.…` flag sets a field that
# `dpconv_jax/configs/base.py` explains. The command is a process of its own that writes to the workdir, and the
# notebook reads what it wrote. Stop the cell and run it again, and the training goes on where it was.

# %%
SIDE = 64
FIELDS = {
    "data.name": "image_folder",
    "data.dir": photos,
    "model.width": 0.25,
    "loss.adversarial": 0,  # no discriminator: half the time to compile
    "optim.generator_lr": 5e-3,
    "optim.warmup_steps": 5,
    "optim.ema": 0.9,
    "train.steps": 100,
    "train.log_every": 4,
    "train.image_every": 20,
    "train.eval_every": 20,
    "train.checkpoint_every": 50,
    "eval.examples": 8,
}
command = [sys.executable, "-m", "dpconv_jax.main", f"--config={recipes.__file__}", f"--workdir={workdir}"]
command += [f"--config.{name}={value}" for name, value in FIELDS.items()]


def curves(rows):
    """The numbers that the workdir's metrics.jsonl holds by now."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    plt.close(figure)  # shown where this is displayed, and not at the end of the cell again
    titles = {"train/pixel": "Loss in training, pixel term", "val/l1": "Validation l1, %"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        steps, values = ([point[axis] for point in points] for axis in (0, 1))
        ax.plot(steps, values, "o-", markersize=3)
        ax.set(title=title, xlabel="step", xlim=(0, FIELDS["train.steps"]), ylim=(0, 1.1 * max(values, default=1)))
    return figure


def watch(training):
    """Draws the curves again whenever there is more of them, until the process ends; an interrupt stops it as well."""
    rows = []
    drawn = display(curves(rows), display_id=True)
    try:
        while training.poll() is None:
            time.sleep(2)
            known, rows = rows, read_scalars(workdir / "metrics.jsonl")
            if len(rows) > len(known):
                drawn.update(curves(rows))
    finally:
        training.terminate()  # which a training takes as the wish to save and stop
        training.wait()


log = pathlib.Path("runs/small.log")
plain = os.environ | {"FORCE_COLOR": ""}  # Jupyter asks for colours, and for a bar with them
with log.open("w") as lines:
    watch(subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, env=plain))
print(*log.read_text().splitlines()[-5:], sep="\n")
assert (workdir / "report.md").exists(), "the training did not come to its end; the lines above say why"

# %% [markdown]
# ## The samples over time
#
# `samples/` holds a picture every 20 steps, always of the same validation photos with the same holes, two for each
# bucket of hole ratio. From the left: what the network sees, its raw output after more and more steps, and the photo.
# Only what it paints in the holes is used in the end.

# %%
MASKED, RAW, TRUTH = 0, 2, 4  # columns of these pictures
pictures = {path: np.asarray(Image.open(path)) for path in sorted((workdir / "samples").glob("*.png"))}
last = [*pictures.values()][-1]


def cut(picture, column):
    """One column of a picture of samples."""
    return picture[:, column * (SIDE + GAP) :][:, :SIDE]


columns = {"masked": cut(last, MASKED)}
columns |= {f"step {int(path.stem.split('-')[1])}": cut(picture, RAW) for path, picture in pictures.items()}
columns |= {"truth": cut(last, TRUTH)}
figure, axes = plt.subplots(1, len(columns), figsize=(1.3 * len(columns), 8), layout="constrained")
for ax, (name, column) in zip(axes, columns.items(), strict=True):
    ax.set_title(name, fontsize=10)
    ax.imshow(column)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## The report
#
# In the end the command evaluates the best checkpoint, in the three buckets of hole ratio and beside a flat colour.

# %%
display(Picture(workdir / "report.png", width=900))
