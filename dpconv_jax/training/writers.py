"""Where numbers and pictures of a run go: JSON lines, TensorBoard, PNG files. Method names as in clu.metric_writers."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorboardX
from PIL import Image

from dpconv_jax.files import write_whole

GAP = 2  # white pixels between the pictures of a grid


class Writer:
    """Appends to WORKDIR/metrics.jsonl, WORKDIR/tb and WORKDIR/samples.

    What an interrupted run wrote after `step`, where this one goes on, is dropped: every step is recorded once.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, step: int):
        workdir = pathlib.Path(workdir)
        self._samples = workdir / "samples"
        self._samples.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        rows = [row for row in read_scalars(path) if row["step"] <= step]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._last = {name: value for row in rows for name, value in row.items() if value is not None}
        self._lines = path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tb"), purge_step=step + 1 if step else None)

    def last(self, name: str) -> float:
        """What an earlier run in this folder last wrote under `name`, 0 where nothing was."""
        return self._last.get(name, 0.0)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """One line {"step": ..., name: value, ...}; values that are not finite become null, and no point."""
        finite = {name: float(value) if np.isfinite(value) else None for name, value in scalars.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        self._lines.flush()
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """uint8 (H, W, 3) each, to WORKDIR/samples/NAME-STEP.png and TensorBoard."""
        for name, image in images.items():
            Image.fromarray(image).save(self._samples / f"{name}-{step:07d}.png")
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._lines.close()
        self._board.close()


class Silent:
    """In place of a Writer where another process writes."""

    def last(self, name: str) -> float:
        """0: the one who writes knows."""
        return 0.0

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Nothing."""

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_scalars(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, [] where there is none; a line cut short by a crash is left out."""
    path = pathlib.Path(path)
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of equal pictures (H, W, 3) or (H, W, 1), float in [0, 1] -> one uint8 (H', W', 3)."""
    height, width = rows[0][0].shape[:2]
    canvas = np.full((len(rows) * (height + GAP) - GAP, len(rows[0]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            top, left = i * (height + GAP), j * (width + GAP)
            pixels = np.rint(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
            canvas[top : top + height, left : left + width] = pixels
    return canvas
