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
# # Quickstart
#
# Fill a hole in a photo; then train a small network for a moment and look inside: its curves, samples, parameters, the
# mask of every layer, and what one pixel of a hole attends to.
#
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/dpconv-jax/dpconv_jax/blob/main/notebooks/quickstart.ipynb
#
# Everywhere images are NHWC with pixels in [0, 1]; in a mask **1 is valid and 0 is a hole**.
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
import pathlib

import jax
import numpy as np
from clu import parameter_overview
from flax import nnx
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from PIL import Image

import dpconv_jax
from dpconv_jax import cli, masks
from dpconv_jax.configs import dpconv as recipes
from dpconv_jax.data.synthetic import painting
from dpconv_jax.training import report, train


def show(pictures, *, across=7, **options):
    """Pictures under their names, `across` in a line."""
    lines = -(-len(pictures) // across)
    _, grid = plt.subplots(lines, across, figsize=(1.8 * across, 2 * lines), layout="constrained", squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (name, picture) in zip(grid.flat, pictures.items(), strict=False):
        ax.imshow(picture, **options)
        ax.set_title(name, fontsize=9)
    plt.show()


# %% [markdown]
# ## Inpaint a photo
#
# `load()` gives the small network that comes with the package, `load(PATH)` that of a workdir or a weight file. Photos
# may have any size and be arrays or Pillow images; only the hole changes. The one here is a garment drawn by code: take
# one of your own, as in `photo = np.asarray(Image.open("photo.jpg").convert("RGB"))`.

# %%
cli.keep_compiled()  # what is compiled once need not be compiled the next time

photo, _, _ = painting.draw(np.random.default_rng(1009), size=128)
mask = masks.draw(np.random.default_rng(1), photo.shape[:2], preset="thick", bucket=1)
starter = dpconv_jax.load()
filled = starter(photo, mask)
show({"photo": photo, f"{masks.hole_ratio(mask):.0%} hole": photo * mask, "filled": filled}, across=3)

# %% [markdown]
# ## A workdir
#
# A training leaves everything it knows in a folder. This one is the paper's network, narrower, with the recipe of
# `python -m dpconv_jax.main --config=configs/dpconv.py` and 60 steps instead of 1,200: enough to see it learn, far too
# few for good pictures. A folder of drawn garments stands in for your photos.

# %%
photos, workdir = pathlib.Path("runs/photos"), pathlib.Path("runs/quickstart")
photos.mkdir(parents=True, exist_ok=True)
for index in range(160):
    pixels, _, _ = painting.draw(np.random.default_rng(index), size=128)
    Image.fromarray(pixels).save(photos / f"{index:03}.png")

config = recipes.get_config()
config.data.name, config.data.dir = "image_folder", str(photos)
config.model.width = 0.25
config.loss.adversarial = 0.0  # no discriminator: less to compile
config.optim.generator_lr = 5e-3
config.optim.warmup_steps = 5
config.optim.ema = 0.9
config.train.steps = 60
config.train.log_every = 10
config.train.image_every = config.train.eval_every = config.train.checkpoint_every = 20
config.eval.examples = 8

train.train_and_evaluate(config, workdir, command="notebooks/quickstart.ipynb")
model = dpconv_jax.load(workdir)

# %% [markdown]
# ## Curves
#
# `metrics.jsonl` in the workdir holds every logged number. Left, the pixel term of the loss in training; right, the l1
# error of whole validation images, holes filled, by which the best checkpoint is chosen.

# %%
curves = report.read_curves(workdir / "metrics.jsonl")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
report.dress(left, "Loss in training, pixel term", xlabel="step")
left.plot(*curves["train/pixel"])
report.dress(right, "Validation l1, %", xlabel="step")
right.plot(*curves["val/l1"], "o-")
for ax in (left, right):
    ax.set(xlim=(0, None), ylim=(0, 1.1 * ax.dataLim.y1))
plt.show()

# %% [markdown]
# ## Samples
#
# Masked, mask, raw output, composite (the output in the holes, the photo elsewhere), truth: validation images, two for
# each bucket of hole ratio.

# %%
newest = Image.open(max((workdir / "samples").glob("*.png")))
display(newest.resize((2 * newest.width, 2 * newest.height)))

# %% [markdown]
# ## Parameters
#
# `e` is the encoder, `d` the dilated bottleneck, `u` the decoder; `a1` and `a2` are the self-attentions.

# %%
print(model.metadata)
print(parameter_overview.get_parameter_overview(model.params))

# %% [markdown]
# ## The mask of every layer
#
# Light is valid. Every layer of the encoder and of the bottleneck leaves a smaller hole than it got. The decoder joins
# their maps with earlier ones, and a position is valid where any of them is.

# %%
mask = masks.draw(np.random.default_rng(2), photo.shape[:2], preset="thick", bucket=2)
valid = mask[None].astype(np.float32)
x = model.convention.prepare(photo[None] / np.float32(255), valid)
output, layers = model.generator(x, valid)
order = sorted(layers, key=lambda name: ("iedu".index(name[0]), name))  # input, encoder, bottleneck, decoder
pictures = {f"{name}, {layers[name].shape[1]}x{layers[name].shape[2]}": layers[name][0, ..., 0] for name in order}
show({"photo": photo} | pictures, cmap="gray", vmin=0, vmax=1.1)

# %% [markdown]
# ## What a hole attends to
#
# `a1` compares every position of its map with all that are valid, `a2` does so on a finer map. These are the weights
# with which the position below the cross collects features: softmax of its query times all keys, on a logarithmic
# scale. The outputs of the layers that make queries and keys are captured while the network runs. What an attention
# collects counts `gamma` times, which starts at 0; after so few steps the table above has it near 0 still.

# %%
holes = np.argwhere(mask[..., 0] == 0)
row, column = holes[len(holes) // 2]  # or any other pixel


@jax.jit
def captured(params, x, valid):
    """The outputs of all layers, by their names."""
    network = nnx.merge(model.graph, params)
    return nnx.capture(network, nnx.Intermediate, method_outputs=nnx.Intermediate)(x, valid)[1]


found = captured(model.params, x, valid)
seen = {"a1": layers["d4"], "a2": np.maximum(layers["e2"], layers["u1"])}  # where the attentions may look
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
axes[0].set_title("photo with its hole")
axes[0].imshow(photo * mask)
for ax, (name, allowed) in zip(axes[1:], seen.items(), strict=True):
    side = allowed.shape[1]
    query, key = (found[name][part]["__call__"][0][0] for part in ("query", "key"))
    place = row * side // len(photo) * side + column * side // len(photo)
    weights = jax.nn.softmax(key @ query[place], where=allowed.ravel() > 0).reshape(side, side)
    ax.set_title(f"{name}, {side}x{side}")
    drawn = ax.imshow(weights, cmap="magma", norm=LogNorm(1e-4, 1, clip=True), extent=(0, len(photo), len(photo), 0))
figure.colorbar(drawn, ax=axes, label="weight", shrink=0.8)
for ax in axes:
    ax.plot(column, row, "+", color="cyan", markersize=12, markeredgewidth=2)
    ax.set_axis_off()
plt.show()
