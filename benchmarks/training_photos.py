"""What do weights do on training photos, by which the recipes of the starter weights were chosen?

    python -m benchmarks.training_photos --manual_dir=$CLOTHING --vgg16=$VGG16 part1.safetensors runs/starter@3600

Of each weight file or WORKDIR@STEP, and of the methods without learning: l1 %, PSNR, SSIM and LPIPS on Oxford's VGG-16
of the composites of 48 training photos, central squares at 128 x 128, mean over those of a bucket. Needs the extra
`baselines` and `python -m dpconv_jax.weights fetch lpips`.
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np

from configs import dpconv
from dpconv_jax import masks, metrics, model, train
from dpconv_jax.baselines import classical
from dpconv_jax.models import lpips
from dpconv_jax.weights import store, vgg16

PHOTOS = 48
SEED = 12345  # of none of the trainings
AT_ONCE = 16
NAMES = ("l1 %", "PSNR dB", "SSIM", "LPIPS")


def measured(fill: Callable, image: np.ndarray, mask: np.ndarray, network: lpips.LPIPS) -> np.ndarray:
    """(4, B): the metrics NAMES of the composites."""
    made = np.where(mask > 0, image, np.clip(fill(image, mask), 0, 1)).astype(np.float32)
    numbers = metrics.per_image(made, image, mask)
    distance = jax.jit(lpips.distance)
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(made), AT_ONCE)]
    far = np.concatenate([np.ravel(distance(network, made[part], image[part])) for part in parts])
    return np.stack([*(numbers[name] for name in ("l1_percent", "psnr_db", "ssim")), far])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="a weight file, or WORKDIR@STEP")
    parser.add_argument("--manual_dir", required=True, help="the folder of clothing-dataset-small")
    parser.add_argument("--vgg16", required=True)
    options = parser.parse_args()
    config = dpconv.starter()
    config.seed, config.train.batch_size = SEED, PHOTOS
    config.data.manual_dir, config.data.crop, config.data.threads = options.manual_dir, "square", 1
    batch = next(train.open_batches(config, train.open_source(config, "train"), start=0))
    image, mask = batch["image"], batch["mask"]
    network = store.load_lpips(trunk=vgg16.load(options.vgg16))
    fills = dict(classical.batched(["telea", "ns", "biharmonic"]))
    for name in options.weights:
        path, _, step = name.partition("@")
        loaded = model.load(path, step=int(step) if step else "best")
        fills[name] = lambda image, mask, of=loaded: of.generator(of.convention.prepare(image, mask), mask)[0]
    titles = [f"{name} {low}-{high}" for low, high in masks.BUCKETS for name in NAMES]
    print("| |", " | ".join(titles), "|\n|---|" + "---|" * len(titles))
    buckets = np.array([masks.bucket_of(float(masks.hole_ratio(each))) for each in mask])
    for name, fill in fills.items():
        values = measured(fill, image, mask, network)
        means = [values[:, buckets == bucket].mean(1) for bucket in range(len(masks.BUCKETS))]
        print(f"| {name} |", " | ".join(f"{value:.4f}" for mean in means for value in mean), "|", flush=True)


if __name__ == "__main__":
    main()
