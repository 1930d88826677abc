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
# # Figure 6: layers until the mask is full
#
# A partial convolution makes a position valid as soon as one pixel of its window is, so a hole shrinks from layer to
# layer until the mask is full. A dilated kernel reaches further and needs fewer layers: the paper's Figure 6, with
# sliders.
#
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/dpconv-jax/dpconv_jax/blob/main/notebooks/mask_update.ipynb
#
# In a mask **1 is valid and 0 is a hole**; the hole ratio is the share of hole pixels.
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
import functools
import itertools

import ipywidgets as widgets
import jax
import jax.numpy as jnp
from IPython.display import display
from matplotlib import pyplot as plt

from dpconv_jax import masks
from dpconv_jax.layers.partial_conv import Source, partial_conv
from dpconv_jax.study.mask_update import charts, counting

# %% [markdown]
# ## One mask, layer by layer
#
# The two layers that the figure compares: 9x9, and 5x5 with dilation 4, padded so that both take 8 pixels off the side
# of the map. Blue is the hole that is left; the numbers count layers. Only the mask matters: kernels are ones, and no
# network is needed.

# %%
LAYERS = {
    "PConv, 9x9": {"side": 9, "dilation": 1, "padding": 0},
    "DPConv, 5x5, dilation 4": {"side": 5, "dilation": 4, "padding": 4},
}
SHOWN = (0, 1, 2, 3, 4, 6, 8)


@functools.partial(jax.jit, static_argnames=("side", "dilation", "padding"))
def update(mask, *, side, dilation, padding):
    """The mask after one layer, (1, H, W, 1)."""
    _, updated = partial_conv([Source(mask, mask)], jnp.ones((side, side, 1, 1)), dilation=dilation, padding=padding)
    return updated


def until_full(mask, **layer):
    """The mask before the first layer and after each, until no hole is left."""
    found = [jnp.asarray(mask[None], jnp.float32)]
    while not found[-1].all() and len(found) <= counting.PUBLISHED_MOST:
        found.append(update(found[-1], **layer))
    return found


def one_mask(preset, tenth, seed):
    """Both layers on a drawn mask whose hole ratio lies in a tenth."""
    mask = next(itertools.islice(counting.drawn(preset, each=1, seed=seed), tenth, None))
    figure, lines = plt.subplots(len(LAYERS), len(SHOWN), figsize=(12, 4.4), layout="constrained")
    figure.suptitle(f"{preset}, {masks.hole_ratio(mask):.0%} hole", x=0.01, ha="left", fontsize=11)
    for line, (name, layer) in zip(lines, LAYERS.items(), strict=True):
        found = until_full(mask, **layer)
        full = f"{'' if found[-1].all() else 'not '}full after {len(found) - 1} layers"
        line[0].set_title(f"{name}: {full}", loc="left", fontsize=10, in_layout=False)
        for ax, number in zip(line, SHOWN, strict=True):
            ax.set_axis_off()
            if number < len(found):
                side = found[number].shape[1]
                left = (counting.SIZE - side) / 2  # the map becomes smaller, and stays centred
                ax.imshow(found[number][0, ..., 0], cmap="Blues_r", vmin=-0.6, vmax=1, extent=(left, left + side) * 2)
                ax.text(0.5, -0.02, f"{number}", transform=ax.transAxes, ha="center", va="top")
            ax.set(xlim=(0, counting.SIZE), ylim=(0, counting.SIZE))
    plt.show()


one_mask("thick", tenth=4, seed=0)

# %% [markdown]
# The same with sliders: another kind of mask, another hole ratio, another mask. Move one, and it draws.

# %%
RANGES = [(charts.range_title(tenth), tenth) for tenth in range(len(counting.RANGES))]
controls = widgets.interactive(
    one_mask,
    {"manual": True, "manual_name": "Draw"},  # the first picture is the one above
    preset=widgets.Dropdown(options=list(masks.PROCEDURAL), value="thick"),
    tenth=widgets.SelectionSlider(options=RANGES, value=4, description="hole ratio", continuous_update=False),
    seed=widgets.IntSlider(0, 0, 99, continuous_update=False),
)
for control in controls.kwargs_widgets:
    control.observe(controls.update, names="value")
display(controls)

# %% [markdown]
# ## Figure 6
#
# Now many masks of each tenth of the hole ratio. Bars are the mean number of layers, diamonds what the paper's figure
# says; the curves below are the same against the hole ratio, smoothed. The ratio of the two layers is the figure's for
# every kind of mask. Their counts are not: they depend on how thick the holes are. Where some masks never become full
# a second panel says how many; means are over the others.

# %%
COMPARISONS = {comparison.title: comparison for comparison in counting.comparisons()}
published, like_for_like, encoders = COMPARISONS


def figure6(comparison, preset, each, seed):
    """`each` masks of every tenth, as bars and as curves."""
    chosen = COMPARISONS[comparison]
    found = counting.measure(counting.drawn(preset, each=each, seed=seed), [chosen])
    display(charts.bars(found, chosen), charts.curves(found, chosen))


figure6(published, preset="qd_imd", each=64, seed=0)

# %% [markdown]
# The two layers above differ in their reach, 9 pixels against 17. With the same kernel and the same padding each
# doubling of the dilation, from 2 on, about halves the layers that a mask needs:

# %%
figure6(like_for_like, preset="qd_imd", each=32, seed=0)

# %% [markdown]
# In the networks strides shrink holes as well, and there dilation gains little: the encoders of PConv and DPConv, with
# their bottlenecks, are full after about as many layers. PConv `benchmark` has only five, too few for large holes.

# %%
figure6(encoders, preset="qd_imd", each=32, seed=0)

# %% [markdown]
# Choose, and press the button. `python -m dpconv_jax.study.mask_update` does it with 12,000 masks, or with masks from
# files.

# %%
_ = widgets.interact_manual(
    figure6,
    comparison=list(COMPARISONS),
    preset=list(masks.PROCEDURAL),
    each=widgets.IntSlider(32, 8, 256, step=8),
    seed=widgets.IntSlider(0, 0, 99),
)
