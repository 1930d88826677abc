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
# # Data and masks
#
# What the network trains on: photos of clothing, where on them the clothes are, and irregular holes of three buckets of
# hole ratio that must cover some of the clothing.
#
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/dpconv-jax/dpconv_jax/blob/main/notebooks/data_and_masks.ipynb
#
# Images are NHWC with pixels in [0, 1]; in a mask **1 is valid and 0 is a hole**; the hole ratio is the share of hole
# pixels.
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

import absl.logging
import numpy as np
from IPython.display import display
from matplotlib import pyplot as plt

from dpconv_jax import masks
from dpconv_jax.data import contact_sheet, pipeline, sources
from dpconv_jax.data.builders import regions
from dpconv_jax.data.decode import decode
from dpconv_jax.data.synthetic.dataset import GarmentsConfig, SyntheticGarments

SIDE = 128
BLUES = ("#9cc3ef", "#2a78d6", "#123f78")


def show(pictures, *, across=6, **options):
    """Pictures under their names, `across` in a line."""
    lines = -(-len(pictures) // across)
    _, grid = plt.subplots(lines, across, figsize=(2 * across, 2.3 * lines), layout="constrained", squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (name, picture) in zip(grid.flat, pictures, strict=False):
        ax.imshow(picture, **options)
        ax.set_title(name, fontsize=10)
    plt.show()


# %% [markdown]
# ## Datasets
#
# `sources.open_source(NAME, SPLIT)` opens a dataset by its name and builds it first where it is not built yet. All but
# the drawn garments need files that their owners give away; `python -m dpconv_jax.data.prepare` says how to get them.

# %%
for name, builder in sources.BUILDERS.items():
    print(f"{name:20}{builder.__doc__.splitlines()[0]}")

# %% [markdown]
# Here a few garments are built rather than all 3,000. An example is an encoded photo, its name, its category, and the
# clothing region as a PNG.

# %%
absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS warns of a dataset that is not as its builder has it
few = GarmentsConfig(name="few", train=60, validation=12, processes=1)
builder = SyntheticGarments(data_dir="runs/data", file_format="array_record", config=few)
sources.build(builder, "")
source = sources.read(builder, "train")
examples = [source[index] for index in range(len(source))]


def photo_of(example):
    """uint8 (256, 256, 3)."""
    return np.asarray(decode(example["image"], max_pixels=10**6))


def region_of(example):
    """bool (256, 256), True on the clothing."""
    return np.asarray(decode(example["region"], max_pixels=10**6).convert("L")) > 127


show([(f"{example['id']}, {example['category']}", photo_of(example)) for example in examples[:12]])

# %% [markdown]
# Any folder of photos is a dataset as well. A hash of its path decides in which split a photo is, and it stays there
# when others come or go.

# %%
folder = pathlib.Path("runs/folder")
folder.mkdir(parents=True, exist_ok=True)
for example in examples:
    (folder / f"{example['id']}.jpg").write_bytes(example["image"])
for split in ("train", "validation"):
    print(split, len(sources.open_source("image_folder", split, dir=str(folder))))

# %% [markdown]
# ## Clothing regions
#
# Of the drawn garments the outline is known. The paper's datasets come with less, and the region is made of what there
# is: all that differs from a plain backdrop (FashionGen), the hull of key points (FashionAI), a box and landmarks
# (DeepFashion), outlines (DeepFashion2), or else the middle of the photo. The numbers say how well each agrees with the
# outline: their intersection over their union.

# %%
example = examples[7]
photo, outline = photo_of(example), region_of(example)
rows, columns = np.nonzero(outline)
corners = [order(columns + sign * rows) for sign in (1, -1) for order in (np.argmin, np.argmax)]  # of the garment
found = {
    "outline": outline,
    "off the backdrop": regions.off_backdrop(photo),
    "hull of four points": regions.of_key_points([(columns[each], rows[each]) for each in corners], size=(256, 256)),
    "box": regions.of_box(columns.min(), rows.min(), columns.max(), rows.max(), size=(256, 256)),
    "middle": regions.central(),
}
pictures = [("photo", photo)]
for name, region in found.items():
    agreement = (region & outline).sum() / (region | outline).sum()
    pictures.append((f"{name}: {agreement:.2f}", np.where(region[..., None], photo, photo // 5)))
show(pictures)

# %% [markdown]
# ## Masks
#
# One of each preset that is drawn, in a line for each bucket of hole ratio; black is the hole. `mixed` draws one of
# several presets for each mask. Masks may also come from files, or from people's drawings: `files` and `quickdraw`.

# %%
rng = np.random.default_rng(0)
drawn = [
    (preset if bucket == 0 else "", masks.draw(rng, (SIDE, SIDE), preset=preset, bucket=bucket))
    for bucket in range(len(masks.BUCKETS))
    for preset in masks.PROCEDURAL
]
show(drawn, across=len(masks.PROCEDURAL), cmap="gray", vmin=0, vmax=1.1)  # not quite white, to see the edges

# %% [markdown]
# ## Buckets
#
# Table 1 of the paper has three buckets of hole ratio: (0, 20], (20, 40] and more than 40 %. In training each is drawn
# with probability 1/3 and filled evenly, the last one up to 60 %.

# %%
names = [f"({low:.0%}, {high:.0%}]" for low, high in masks.BUCKETS]
ratios = [
    [masks.hole_ratio(masks.draw(rng, (SIDE, SIDE), preset="mixed", bucket=bucket)) for _ in range(200)]
    for bucket in range(len(masks.BUCKETS))
]
figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
ax.hist(ratios, bins=np.linspace(0, 0.6, 31), stacked=True, color=BLUES, label=names)
ax.set(xlabel="hole ratio", ylabel="masks", title="600 masks of the preset `mixed`")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Coverage
#
# A hole in the backdrop alone says nothing about clothes. Where the clothing region is known a hole covers at least
# `min_coverage` of it, 5 % in the paper's recipe: masks are drawn again, then moved, until they do. Each dot is a mask
# of the first bucket; the dashed line is what was asked for.

# %%
asked = (0.0, 0.05, 0.15)
some = [(region_of(each), number) for number, each in enumerate(examples[:40])]
figure, axes = plt.subplots(1, len(asked), figsize=(10, 2.9), layout="constrained", sharey=True)
for ax, least in zip(axes, asked, strict=True):
    dots = []
    for region, number in some:
        mask = masks.draw(
            np.random.default_rng(number), region.shape, preset="mixed", bucket=0, region=region, min_coverage=least
        )
        dots.append((masks.hole_ratio(mask), masks.coverage(mask, region)))
    ax.plot(*zip(*dots, strict=True), "o", markersize=4, color=BLUES[1])
    ax.axhline(least, color="black", linewidth=1, linestyle="--")
    ax.set(title=f"min_coverage = {least}", xlabel="hole ratio", xlim=(0, 0.2), ylim=(-0.02, None))
axes[0].set_ylabel("share of the clothing\nin the hole")
plt.show()

# %% [markdown]
# All of it in one picture, the one that `prepare` leaves beside a dataset it has built: photo, clothing region, and a
# mask of each bucket in turn.

# %%
sheet = contact_sheet.sheet([contact_sheet.Sample("train", each) for each in examples[:6]], min_coverage=0.05)
display(sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3)))

# %% [markdown]
# ## Batches
#
# What a training gets: photos flipped at random, holes drawn anew in every step.

# %%
preparation = pipeline.Preparation(
    size=SIDE, crop="resize", max_pixels=10**6, mask_preset="mixed", min_coverage=0.05, seed=0
)
batches = pipeline.train_batches(source, preparation, flip=True, threads=1, batch_size=6)
batch = next(batches)
batches.close()
print({name: (array.shape, str(array.dtype)) for name, array in batch.items()})
show([*zip(batch["id"], batch["image"] * batch["mask"], strict=True)])

# %% [markdown]
# An evaluation draws a fixed mask for every photo and bucket, from the seed and the photo's name alone, so that every
# method sees the same. Its manifest lists them with their hashes.

# %%
fixed = [next(pipeline.eval_batches(source, preparation, bucket=bucket, batch_size=2)) for bucket in range(3)]
show(
    [
        (f"{row.id}\n{names[row.bucket]}: {row.ratio:.0%}", image * mask)
        for batch in fixed
        for row, image, mask in zip(batch["row"], batch["image"], batch["mask"], strict=True)
    ]
)
for batch in fixed:
    for row in batch["row"]:
        print(f"{row.id}: bucket {row.bucket}, ratio {row.ratio:.3f}, coverage {row.coverage:.3f}, {row.sha256[:16]}")
