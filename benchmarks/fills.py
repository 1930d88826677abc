"""How good are the fills that a shop would get: by error, by looks and by how much of the cloth's detail is there?

    python -m benchmarks.fills --photos=$CLOTHING/validation --vgg=$VGG16 telea pypatchmatch patchmatch network texture

Of each method, in the three buckets of hole ratio: l1 % and PSNR over all pixels, SSIM, LPIPS on Oxford's VGG-16, the
mean |gradient| inside the holes over the truth's, seconds a photo; and l1 and LPIPS over Telea's where Telea is among
the methods. Photos are central squares, reduced to --size; every method sees the same holes, strokes of the preset
`thin` unless --preset names another. `network` is one pass at 128 pixels, enlarged; `texture` are patches of the photo
led by that; the others are the baselines of `dpconv_jax/baselines/classical.py`. Needs
`python -m dpconv_jax.weights fetch lpips`, or --lpips.
"""

import argparse
import pathlib
import time
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from benchmarks.patchmatch import photo
from dpconv_jax import masks, model
from dpconv_jax.baselines import classical
from dpconv_jax.inpainting import texture
from dpconv_jax.panel import Networks, Panel
from dpconv_jax.patches import pyramid
from dpconv_jax.weights import store, vgg16

GUIDE = 128  # pixels, the side at which the network sees the photo
SEED = 7
METRICS = {"l1_percent": "l1 %", "psnr_db": "PSNR", "ssim": "SSIM", "lpips_oxford": "LPIPS"}


def guide(network: model.Model, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The network's picture (H, W, 3) of the photo reduced to about GUIDE pixels, enlarged, and how many times."""
    small, hole, scale = np.where(mask > 0, image, 0), mask[..., 0] == 0, 1
    while max(hole.shape) > GUIDE:
        small, hole, scale = *pyramid.halved(small, hole), 2 * scale
    x, valid = jnp.asarray(small[None], jnp.float32), jnp.asarray(~hole[None, ..., None], jnp.float32)
    output = np.asarray(network.generator(network.convention.prepare(x, valid), valid)[0][0]).clip(0, 1)
    enlarged = np.where(hole[..., None], output, small)
    for _ in range(scale.bit_length() - 1):
        enlarged = pyramid.doubled(enlarged, (2 * enlarged.shape[0], 2 * enlarged.shape[1]))
    return enlarged[: image.shape[0], : image.shape[1]].astype(np.float32), scale


def gradient(image: np.ndarray, hole: np.ndarray) -> float:
    """The sum of |differences| of neighbours that both lie in the hole."""
    rows = np.abs(np.diff(image, axis=0))[hole[1:] & hole[:-1]].sum()
    return float(rows + np.abs(np.diff(image, axis=1))[hole[:, 1:] & hole[:, :-1]].sum())


def methods(names: list[str], checkpoint: str | None) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """By name: image (H, W, 3) and mask (H, W, 1) -> composite."""
    network = model.load(checkpoint) if {*names} & {"network", "texture"} else None

    def alone(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask > 0, image, guide(network, image, mask)[0])

    def led(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        picture, scale = guide(network, image, mask)
        return texture.fill(image, mask, picture, guide_scale=scale).image

    return {name: {"network": alone, "texture": led}.get(name) or classical.METHODS[name] for name in names}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", choices=[*classical.METHODS, "network", "texture"])
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--vgg", required=True)
    parser.add_argument("--lpips")
    parser.add_argument("--checkpoint", help="default: the starter weights")
    parser.add_argument("--limit", type=int, help="photos, spread over all")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--preset", default="thin", choices=masks.PROCEDURAL)
    options = parser.parse_args()
    networks = Networks(lpips=store.load_lpips(options.lpips, trunk=vgg16.load(options.vgg)))
    paths = sorted(options.photos.rglob("*.jpg"))
    if options.limit:
        paths = [paths[round(i)] for i in np.linspace(0, len(paths) - 1, options.limit)]
    fills = methods(options.methods, options.checkpoint)
    panels = {(name, bucket): Panel(networks, bootstrap=0, seed=0) for name in fills for bucket in range(3)}
    slopes = dict.fromkeys([*panels, *(("truth", bucket) for bucket in range(3))], 0.0)
    seconds = dict.fromkeys(panels, 0.0)
    size, means = (options.size, options.size), {}
    for index, path in enumerate(paths):
        image = photo(path, options.size)
        for bucket in range(3):
            rng = np.random.default_rng([SEED, index, bucket])
            mask = masks.draw(rng, size, preset=options.preset, bucket=bucket).astype(np.float32)
            slopes["truth", bucket] += gradient(image, mask[..., 0] == 0)
            for name, fill in fills.items():
                if not index and not bucket:
                    fill(image, mask)  # compiles
                start = time.perf_counter()
                filled = fill(image, mask)
                seconds[name, bucket] += time.perf_counter() - start
                slopes[name, bucket] += gradient(filled, mask[..., 0] == 0)
                panels[name, bucket].add(output=filled[None], target=image[None], mask=mask[None])
    print(f"{len(paths)} photos, {options.size}x{options.size}, holes of the preset {options.preset}")
    print(f"| hole ratio | method | {' | '.join(METRICS.values())} | gradient | s | l1 / Telea | LPIPS / Telea |")
    print("|" + "---|" * (len(METRICS) + 6))
    for bucket in range(3):
        for name in fills:
            scores = {metric: found.value for metric, found in panels[name, bucket].scores().items()}
            means[name] = [scores[metric] for metric in METRICS]
            row = [f"{mean:.{digits}f}" for mean, digits in zip(means[name], (3, 2, 4, 4), strict=True)]
            row += [
                f"{slopes[name, bucket] / slopes['truth', bucket]:.2f}",
                f"{seconds[name, bucket] / len(paths):.2f}",
            ]
            if "telea" in means:
                row += [f"{means[name][metric] / means['telea'][metric]:.3f}" for metric in (0, 3)]
            print(f"| {masks.DRAWN[bucket]} | {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
