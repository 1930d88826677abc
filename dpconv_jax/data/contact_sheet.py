"""A picture to check a built dataset with: photo | clothing region | sample mask, a few of each split."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dpconv_jax import masks
from dpconv_jax.data.builders.collection import MAX_PIXELS
from dpconv_jax.data.decode import decode
from dpconv_jax.data.image_folder import Example

CELL = 224  # pixels of the square that a photo is fitted into
GAP = 8
LINE = 15
ACROSS = 2  # examples in a row of the sheet
PAPER, INK = (255, 255, 255), (40, 40, 40)
OUTSIDE = 0.2  # of the brightness outside the region
HOLE = (214, 51, 108)


class Sample(NamedTuple):
    """An example of a split."""

    split: str
    example: Example


def sheet(samples: Sequence[Sample], *, min_coverage: float) -> Image.Image:
    """The samples, their masks in the three buckets in turn. Raises BadImageError for one that does not decode."""
    width, height = 3 * CELL + 2 * GAP, CELL + 2 * LINE + GAP
    rows = -(-len(samples) // ACROSS)
    paper = Image.new("RGB", (ACROSS * (width + 2 * GAP), rows * (height + GAP) + GAP), PAPER)
    for index, sample in enumerate(samples):
        row, column = divmod(index, ACROSS)
        place = (GAP + column * (width + 2 * GAP), GAP + row * (height + GAP))
        paper.paste(_strip(sample, width, height, bucket=index % len(masks.BUCKETS), min_coverage=min_coverage), place)
    return paper


def _strip(sample: Sample, width: int, height: int, *, bucket: int, min_coverage: float) -> Image.Image:
    example = sample.example
    photo = decode(example["image"], max_pixels=MAX_PIXELS, min_side=CELL)
    photo.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    pixels, region = np.asarray(photo), None
    if example["region"]:
        image = decode(example["region"], max_pixels=MAX_PIXELS).convert("L")
        region = np.asarray(image.resize(photo.size, Image.Resampling.NEAREST)) > 127
    mask = masks.eval_mask(
        seed=0,
        example_id=example["id"],
        bucket=bucket,
        size=pixels.shape[:2],
        preset="mixed",
        region=region,
        min_coverage=min_coverage,
    )
    hole = f"hole {masks.hole_ratio(mask):.0%}"
    if region is None:
        clothing, what = Image.new("RGB", photo.size, (225, 225, 225)), "region unknown"
    else:
        clothing = Image.fromarray(np.where(region[..., None], pixels, pixels * OUTSIDE).astype(np.uint8))
        what, hole = f"region {region.mean():.0%}", f"{hole}, {masks.coverage(mask, region):.0%} of the clothing"
    strip = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(11)
    covered = Image.fromarray(np.where(mask == 0, np.array(HOLE, np.uint8), pixels))
    panels = ((photo, f"{sample.split}: {example['category']}"), (clothing, what), (covered, hole))
    for column, (panel, caption) in enumerate(panels):
        left = column * (CELL + GAP)
        strip.paste(panel, (left + (CELL - panel.width) // 2, 2 * LINE + (CELL - panel.height) // 2))
        pen.text((left, LINE), caption, INK, font)
    pen.text((0, 0), example["id"], INK, font)
    return strip
