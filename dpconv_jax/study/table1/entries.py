"""Table 1 as a benchmark that others can enter: its holes for other people's code, and their images on the same holes.

Files are named by the image's id, every byte but letters, digits and _.-~ as %XX: shirt/1.jpg is shirt%2F1.jpg.png.
"""

import hashlib
import io
import pathlib
import urllib.parse
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.evaluate import Batch, Batches, Method, Padded
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS
from dpconv_jax.study.table1.fixed_holes import Manifest
from dpconv_jax.study.table1.results import bucket_range

GREY = 128  # of 255, in the holes of what is exported
ROUNDING = 1 / 255 + 1e-6  # how far a valid pixel may be from what was exported

README = """\
Inpainting of clothing images with irregular holes: the holes of a benchmark, to be filled by any method.

masked/<dataset>/<bucket>/<id>.png  what a method gets: RGB, {size} x {size}, holes filled with mid-grey, {grey} of 255
masks/<dataset>/<bucket>/<id>.png   its hole: greyscale, white (255) = hole, to be filled; black (0) = valid
manifest/<dataset>.jsonl            a line each: id, bucket, seed, preset, ratio, coverage, and the mask's sha256

<bucket> is the range of the hole ratio, the share of pixels in the hole: {buckets}.
<id> is the image's id with every byte but letters, digits and _.-~ as %XX: shirt/1.jpg is shirt%2F1.jpg, and its file
shirt%2F1.jpg.png. In the manifest the buckets are 0, 1 and 2, and the sha256 is of the mask's bytes, row by row, one
byte a pixel, 1 = valid and 0 = hole.

To enter a method, write its result for every masked image as YOURS/<dataset>/<bucket>/<id>.png: RGB, {size} x {size},
PNG and not JPEG, no file more and none less, the valid pixels as they were (1/255 of rounding is forgiven). Then

  python -m dpconv_jax.study.table1 --config=... --workdir=DIR --external=NAME=YOURS

with the config of this folder adds its rows to the table, from the same images and holes. The folder was made by

  {command}
"""


def file_name(example_id: str) -> str:
    """Of an image, by its id; no two ids share one, and `unquote` gives the id back."""
    return urllib.parse.quote(example_id.encode(errors="surrogateescape"), safe="") + ".png"


# ---- out ----


def export(out: pathlib.Path, dataset: str, batches_for_bucket: Batches, *, said: Callable[[], None]) -> int:
    """Writes one dataset's files below `out`, calling `said` after each image, and returns how many there are.

    Raises UsageError where a file cannot be written.
    """
    rows = []
    try:
        if out.is_dir() and any((out / kind / dataset).exists() for kind in ("masked", "masks")):
            raise UsageError(f"--out {out} holds an export of {dataset} already; choose another folder")
        for bucket in range(len(BUCKETS)):
            where = pathlib.Path(dataset) / bucket_range(bucket)
            for kind in ("masked", "masks"):
                (out / kind / where).mkdir(parents=True, exist_ok=True)
            for batch in batches_for_bucket(bucket):
                for image, mask, row in zip(batch["image"], batch["mask"], batch["row"], strict=True):
                    pixels = np.where(mask > 0.5, np.rint(image * 255), GREY).astype(np.uint8)
                    _write(out / "masked" / where / file_name(row.id), pixels)
                    _write(out / "masks" / where / file_name(row.id), np.where(mask[..., 0] > 0.5, 0, 255))
                    rows.append(row)
                    said()
        (out / "manifest").mkdir(exist_ok=True)
        masks.write_manifest(out / "manifest" / f"{dataset}.jsonl", rows)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror}") from error
    return len(rows)


def write_readme(out: pathlib.Path, *, size: int, command: str) -> None:
    """What the folder is and how to enter."""
    buckets = ", ".join(map(bucket_range, range(len(BUCKETS))))
    write_whole(out / "README.txt", README.format(size=size, grey=GREY, buckets=buckets, command=command).encode())


def _write(path: pathlib.Path, pixels: np.ndarray) -> None:
    encoded = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(encoded, "PNG")
    write_whole(path, encoded.getvalue())


# ---- in ----


class Entry:
    """Somebody's images of one dataset, `folder`/<bucket>/<id>.png, all there and none beside them."""

    def __init__(self, name: str, folder: pathlib.Path, manifest: Manifest):
        """Raises UsageError where files are missing or too many; reads none."""
        self.name, self.folder, self._manifest = name, folder, manifest
        for bucket, rows in enumerate(manifest.rows):
            where = folder / bucket_range(bucket)
            if not where.is_dir():
                raise UsageError(f"--external={name}: {where} is no folder")
            wanted = {file_name(row.id) for row in rows}
            found = {path.name for path in where.iterdir()}
            found -= {name for name in found - wanted if name.startswith(".")}
            for what, names in (("lacks", wanted - found), ("has, beside the manifest's images,", found - wanted)):
                if names:
                    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                    raise UsageError(
                        f"--external={name}: {where} {what} {min(names)}{more}; it needs {len(wanted)} files"
                    )

    def check(self, batches_for_bucket: Batches) -> None:
        """Reads all. UsageError naming the first file whose size is wrong or whose valid pixels were changed."""
        changed, count = [], 0
        for bucket in range(len(BUCKETS)):
            for batch in self._manifest.checked(batches_for_bucket(bucket), bucket):
                outputs = self.read(batch, bucket)
                for output, image, mask, row in zip(outputs, batch["image"], batch["mask"], batch["row"], strict=True):
                    count += 1
                    off = float(np.max(np.abs(output - image) * (mask > 0.5)))
                    if off > ROUNDING:
                        changed.append((self._path(row.id, bucket), off))
        if not changed:
            return
        path, off = changed[0]
        what = f"--external={self.name}: {path} has valid pixels that differ by up to {255 * off:.0f} of 255"
        if len(changed) == count:
            raise UsageError(f"{what}, and so do all {count} files: were they JPEG, resized, or not composited?")
        raise UsageError(f"{what} ({len(changed)} of {count} files have)")

    def read(self, batch: Batch, bucket: int) -> np.ndarray:
        """The images (b, H, W, 3) float32 in [0, 1] of a batch; UsageError where one is no image of its size."""
        return np.stack([
            self._pixels(self._path(row.id, bucket), mask.shape[:2])
            for row, mask in zip(batch["row"], batch["mask"], strict=True)
        ])  # fmt: skip

    def method(self) -> Method:
        """The entry as a method of the table."""
        total = hashlib.sha256()
        for bucket, rows in enumerate(self._manifest.rows):
            for row in rows:
                total.update(hashlib.sha256(self._path(row.id, bucket).read_bytes()).digest())

        def fill(batch: Padded) -> np.ndarray:
            images = self.read(batch.batch, batch.batch["row"][0].bucket)
            return images[np.minimum(np.arange(len(batch.image)), batch.count - 1)]

        return Method(self.name, {"source": "external images", "files": total.hexdigest()}, fill)

    def _path(self, example_id: str, bucket: int) -> pathlib.Path:
        return self.folder / bucket_range(bucket) / file_name(example_id)

    def _pixels(self, path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"), np.float32)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"--external={self.name}: {path} is no image: {error}") from error
        if pixels.shape[:2] != size:
            ours, theirs = (f"{height} x {width}" for height, width in (size, pixels.shape[:2]))
            raise UsageError(f"--external={self.name}: {path} is {theirs}, not {ours}")
        return pixels / 255


def parse(texts: Sequence[str], *, taken: Iterable[str]) -> dict[str, pathlib.Path]:
    """The folders of --external=NAME=DIR by name; UsageError for another form or a name that is taken."""
    found: dict[str, pathlib.Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path or not name.isidentifier():
            raise UsageError(f"--external={text}: it is NAME=DIR, the name of letters, digits and _")
        if name in taken or name in found:
            raise UsageError(f"--external={text}: the name {name!r} is taken")
        found[name] = pathlib.Path(path)
    return found
