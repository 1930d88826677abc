"""What do weights do on training photos, by which the recipes of the starter weights were chosen?

    python -m benchmarks.training_photos --manual_dir=$CLOTHING --vgg16=$VGG16 part1.safetensors runs/starter@3600

Of each weight file or WORKDIR@STEP, and of the methods without learning: l1 %, PSNR, SSIM and LPIPS on Oxford's VGG-16
of the composites of 48 training photos, central squares at 128 x 128, mean over those of a bucket. Needs the extra
`baselines` and `python -m dpconv_jax.weights fetch lpips`.
"""

import argparse

import numpy as np

from dpconv_jax import masks
from dpconv_jax.baselines import classical
from dpconv_jax.configs import dpconv
from dpconv_jax.evaluation.suite import Networks, Panel
from dpconv_jax.inpainting import model
from dpconv_jax.training import steps
from dpconv_jax.training.experiment import Experiment
from dpconv_jax.weights import store, vgg16

PHOTOS = 48
SEED = 12345  # of none of the trainings
METRICS = {"l1_percent": "l1 %", "psnr_db": "PSNR dB", "ssim": "SSIM", "lpips_oxford": "LPIPS"}


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
    batch = steps.floats(next(Experiment.of(config).batches(start=0)))
    image, mask = batch["image"], batch["mask"]
    networks = Networks(lpips=store.load_lpips(trunk=vgg16.load(options.vgg16)))
    fills = dict(classical.batched(["telea", "ns", "biharmonic"]))
    for name in options.weights:
        path, _, step = name.partition("@")
        loaded = model.load(path, step=int(step) if step else "best")
        fills[name] = lambda image, mask, of=loaded: of.generator(of.convention.prepare(image, mask), mask)[0]
    titles = [f"{name} {low}-{high}" for low, high in masks.BUCKETS for name in METRICS.values()]
    print("| |", " | ".join(titles), "|\n|---|" + "---|" * len(titles))
    buckets = np.array([masks.bucket_of(float(masks.hole_ratio(each))) for each in mask])
    for name, fill in fills.items():
        values = Panel(networks, bootstrap=0, seed=0).add(output=fill(image, mask), target=image, mask=mask)
        means = [values[metric][buckets == bucket].mean() for bucket in range(len(masks.BUCKETS)) for metric in METRICS]
        print(f"| {name} |", " | ".join(f"{mean:.4f}" for mean in means), "|", flush=True)


if __name__ == "__main__":
    main()
