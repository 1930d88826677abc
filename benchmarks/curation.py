"""Does the measure that orders variants of a fill, without knowing the truth, agree with LPIPS, which knows it?

    python -m benchmarks.curation --photos=$CLOTHING/validation --vgg=$VGG16 --limit=40

Of the fills `model(image, mask, variants=6)` the means of l1 % and LPIPS (Oxford's VGG-16) by their place in that
order, beside those of the one fill that a user gets without asking for variants and of the best of six by LPIPS; and
the share of pairs of fills that the measure puts in the order of LPIPS, half where it knows nothing. Photos are central
squares of 256 pixels with strokes of the preset `thin` over 20-40 and 40-60 % of them. Needs
`python -m dpconv_jax.weights fetch lpips`, or --lpips.
"""

import argparse
import itertools
import pathlib

import numpy as np

from benchmarks.fills import chosen, strokes
from dpconv_jax import masks
from dpconv_jax.evaluation.suite import Networks, Panel
from dpconv_jax.inpainting import model
from dpconv_jax.weights import store, vgg16

SIZE = 256
VARIANTS = 6


def main() -> None:
    """Prints the table of each range of hole ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--vgg", required=True)
    parser.add_argument("--lpips")
    parser.add_argument("--checkpoint", help="default: the weights of this package")
    parser.add_argument("--limit", type=int, default=40, help="photos, spread over all")
    options = parser.parse_args()
    networks = Networks(lpips=store.load_lpips(options.lpips, trunk=vgg16.load(options.vgg)))
    network = model.load(options.checkpoint)
    paths = chosen(options.photos, options.limit)

    def scores(filled: np.ndarray, image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
        panel = Panel(networks, bootstrap=0, seed=0)
        panel.add(output=filled[None], target=image[None], mask=mask[None])
        found = {metric: score.value for metric, score in panel.scores().items()}
        return found["l1_percent"], found["lpips_oxford"]

    examples = [*strokes(paths, size=SIZE, preset="thin")]
    for ratios in masks.DRAWN[1:]:
        places, asked, ordered = [], [], []
        for _, image, mask in (each for each in examples if each.group == str(ratios)):
            variants = [scores(fill, image, mask) for fill in network(image, mask, variants=VARIANTS)]
            places.append(variants)
            asked.append(scores(network(image, mask), image, mask))
            ordered += [first[1] < second[1] for first, second in itertools.combinations(variants, 2)]
        found = np.array(places)
        best = found[np.arange(len(found)), found[..., 1].argmin(axis=1)]
        rows = {f"place {1 + place}": found[:, place] for place in range(VARIANTS)}
        rows |= {"without variants": np.array(asked), "best by LPIPS": best}
        print(f"holes of {ratios}, {len(paths)} photos; {np.mean(ordered):.3f} of the pairs in order")
        print("| | l1 % | LPIPS |\n|---|---|---|")
        for name, values in rows.items():
            print(f"| {name} | {values[:, 0].mean():.3f} | {values[:, 1].mean():.4f} |", flush=True)


if __name__ == "__main__":
    main()
