"""Garments drawn by code, like the sketches of a catalogue: the embedded dataset's pictures. NumPy and Pillow only.

`wardrobe` cuts a garment into pieces of cloth; `draw` fits them to the picture and paints them back to front, each with
its folds, seams and shadow. Everything follows from the generator passed in.
"""

import io
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dpconv_jax.data.synthetic import fabrics
from dpconv_jax.data.synthetic.fabrics import Array
from dpconv_jax.data.synthetic.garments import GARMENTS
from dpconv_jax.data.synthetic.tailor import Piece, ripple

CHUNK = 50  # pictures a process draws at a time
UNITS = 256  # the picture's side in the units that patterns, lines and blurs are given in
SHARP = 3  # outlines are drawn this much larger, then averaged


def _blurred(mask: Array, radius: float) -> Array:
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _resized(field: Array, shape: tuple[int, int]) -> Array:
    return np.asarray(Image.fromarray(field).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _background(rng: np.random.Generator, size: int) -> Array:
    """A studio's wall: plain, a gradient, a pool of light, or a wall meeting a floor; float32 (size, size, 3)."""
    axis = np.arange(size, dtype=np.float32) / size
    y, x = axis[:, None], axis[None]
    wall = fabrics.PALETTE[rng.integers(12)] * 0.35 + rng.uniform(0.5, 0.62)
    if rng.random() < 0.15:
        wall = wall * rng.uniform(0.35, 0.7)
    kind = rng.integers(4)
    if kind == 0:
        light = np.ones((1, 1))
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        light = 1 + rng.uniform(0.04, 0.12) * ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle))
    elif kind == 2:
        light = 1.05 - rng.uniform(0.15, 0.45) * ((x - rng.uniform(0.35, 0.65)) ** 2 + (y - 0.45) ** 2)
    else:
        horizon, drop = rng.uniform(0.72, 0.88), rng.uniform(0.05, 0.14)
        light = (
            1
            - drop * (0.5 + 0.5 * np.tanh((y - horizon) * float(rng.choice([12, 75]))))
            + 0.08 * np.maximum(y - horizon, 0)
        )
    light = np.broadcast_to(light, (size, size)).astype(np.float32)
    return np.clip(wall.astype(np.float32) * light[..., None], 0, 1)


class _Canvas:
    """The picture being painted: `pixels` float32 (size, size, 3) and `region` float32 (size, size), share of cloth."""

    def __init__(self, rng: np.random.Generator, size: int):
        self.rng, self.size, self.scale = rng, size, size / UNITS
        self.pixels = _background(rng, size)
        self.region = np.zeros((size, size), np.float32)

    def _box(self, points: Array, pad: float) -> tuple[int, int, int, int]:
        low = np.floor((points.min(0) - pad) * self.scale).astype(int)
        high = np.ceil((points.max(0) + pad) * self.scale).astype(int) + 1
        low, high = np.clip(low, 0, self.size - 2), np.clip(high, 2, self.size)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _mask(self, box: tuple[int, int, int, int], draw: Callable[[ImageDraw.ImageDraw, Callable], None]) -> Array:
        """What `draw` paints at SHARP times the size, averaged; float32 in [0, 1]."""
        x0, y0, x1, y1 = box
        image = Image.new("L", ((x1 - x0) * SHARP, (y1 - y0) * SHARP))
        place = lambda p: ((p * self.scale - (x0, y0)) * SHARP).astype(np.float32).ravel().tolist()  # noqa: E731
        draw(ImageDraw.Draw(image), place)
        return np.asarray(image.reduce(SHARP), np.float32) / 255

    def _relief(self, piece: Piece, mask: Array, u: Array, v: Array, half: tuple[float, float], length: float) -> Array:
        """Light on the piece's folds, about [-0.5, 0.5]; computed at half resolution, where it loses nothing."""
        rng = self.rng
        round_ = _blurred(mask, 7 * self.scale / 2)
        gy, gx = np.gradient(round_)
        light = 1.9 * (gx + 0.6 * gy) - 0.3 * (1 - round_)
        t = np.clip(v / length, 0, 1)
        s = u / (half[0] + (half[1] - half[0]) * t + 1e-6)
        if piece.folds == "drape":
            spread = np.clip(t * 1.5, 0, 1) ** 0.7
            step = 0.03
            slope = (ripple(piece.waves, s + step) - ripple(piece.waves, s - step)) / (2 * step)
            light = light + spread * (0.045 * slope + 0.09 * ripple(piece.waves, s))
        elif piece.folds == "pleats":
            phase = np.mod(s * 4 + 0.5, 1)
            edge = np.where(phase < 0.78, 0.4 - phase, (phase - 0.89) * 4 + 0.06)  # a slow fall, a steep rise
            light = light + 0.34 * edge * (0.55 + 0.45 * t)
        elif piece.folds == "crease":
            light = light + 0.16 * s / (1 + 6 * np.abs(s)) * -3 * np.exp(-np.abs(s) * 2)
        elif piece.folds == "quilt":
            phase = np.mod(v / 15, 1)
            light = light + 0.24 * np.sin(phase * np.pi) ** 0.6 - 0.17 + 0.1 * (0.5 - phase)
        count = {"soft": 9, "sleeve": 5, "leg": 9, "crease": 5, "quilt": 4, "drape": 4, "pleats": 0}[piece.folds]
        if count:
            # Each fold: a ridge with one lit and one shaded flank, fading along its length.
            s0, t0 = rng.uniform(-0.9, 0.9, count), rng.uniform(0.02, 1.0, count)
            lean = (
                rng.normal(0, 0.5, count)
                if piece.folds != "sleeve"
                else rng.choice([-1, 1], count) * rng.uniform(0.5, 1.2, count)
            )
            reach, width = rng.uniform(14, 46, count), rng.uniform(2.0, 6.5, count)
            depth = rng.uniform(0.07, 0.24, count) * rng.choice([-1, 1], count)
            for place, level, tilt, long, wide, deep in np.stack([s0, t0, lean, reach, width, depth], 1).tolist():
                du, dv = u - place * (half[0] + half[1]) / 2, v - level * length
                across = (du * math.cos(tilt) - dv * math.sin(tilt)) / wide
                along = (du * math.sin(tilt) + dv * math.cos(tilt)) / long
                across = across - math.copysign(0.6, place) * along**2  # folds bend toward the middle
                light = light + deep * (across - 0.35) * np.exp(-(across**2) - along**2)
        return light.astype(np.float32)

    def paint(self, piece: Piece) -> None:
        """The piece over what is there already, with its shadow, folds and seams; its points in the picture's units."""
        box = x0, y0, x1, y1 = self._box(piece.outline, 8)
        window = np.s_[y0:y1, x0:x1]
        mask = self._mask(box, lambda pen, place: pen.polygon(place(piece.outline), fill=255))
        under = self.pixels[window]
        if piece.lift:
            shade = np.roll(_blurred(mask, 2.2 * self.scale), (int(2 * self.scale), int(1.5 * self.scale)), (0, 1))
            under = under * (1 - 0.3 * piece.lift * shade * self.region[window])[..., None]

        (ox, oy), (ex, ey) = piece.grain.tolist()
        length = math.hypot(ex - ox, ey - oy)
        ax, ay = (ex - ox) / length, (ey - oy) / length
        y = np.arange(y0, y1, dtype=np.float32)[:, None]
        x = np.arange(x0, x1, dtype=np.float32)[None]
        x, y = (x + 0.5) / self.scale - ox, (y + 0.5) / self.scale - oy
        u, v = x * ay - y * ax, x * ax + y * ay
        if piece.folds == "none":
            light = 0.12 * (_blurred(mask, 2.5 * self.scale) - 1)
        else:
            light = _resized(
                self._relief(piece, mask[::2, ::2], u[::2, ::2], v[::2, ::2], piece.flare, length), mask.shape
            )
            spread = (piece.flare[0] + (piece.flare[1] - piece.flare[0]) * np.clip(v / length, 0, 1)) / max(piece.flare)
            u = u / (0.4 + 0.6 * spread) + 6 * light if piece.folds in ("drape", "pleats") else u + 5 * light
            v = v + 4 * light
        cloth = piece.fabric(u, v) * piece.tone
        cloth = (
            cloth * (1 + np.minimum(light, 0) * 1.15)[..., None]
            + (1 - cloth) * (0.55 * np.maximum(light, 0))[..., None]
        )

        def lines(pen: ImageDraw.ImageDraw, place: Callable) -> None:
            hair = max(1, round(0.8 * SHARP * self.scale))
            pen.line(place(np.concatenate([piece.outline, piece.outline[:1]])), fill=150, width=hair)
            for seam in piece.seams:
                pen.line(place(seam), fill=200, width=hair, joint="curve")
            for stitch in piece.stitches:
                _dashes(pen, place(stitch), 3.0 * SHARP * self.scale, max(1, round(0.5 * SHARP * self.scale)))

        ink = self._mask(box, lines)
        cloth = cloth + ((cloth * 0.35 if cloth.mean() > 0.16 else cloth + 0.22) - cloth) * (ink * 0.85)[..., None]
        self.pixels[window] = under + (cloth - under) * mask[..., None]
        self.region[window] = np.maximum(self.region[window], mask)


def _dashes(pen: ImageDraw.ImageDraw, flat: list[float], dash: float, width: int) -> None:
    points = np.array(flat).reshape(-1, 2)
    travelled = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    marks = np.arange(0, travelled[-1], dash)
    if len(marks) < 2:
        return
    at = np.stack([np.interp(marks, travelled, points[:, k]) for k in (0, 1)], 1)
    gap = at[:-1] + (at[1:] - at[:-1]) * 0.6
    for (ax, ay), (bx, by) in zip(at[:-1].tolist(), gap.tolist(), strict=True):
        pen.line((ax, ay, bx, by), fill=170, width=width)


def _fit(rng: np.random.Generator, pieces: list[Piece]) -> None:
    """Place the garment in the picture: scale, a slight turn, and a slow wobble that undoes the symmetry."""
    points = np.concatenate([piece.outline for piece in pieces])
    low, high = points.min(0), points.max(0)
    scale = UNITS * rng.uniform(0.82, 0.94) / max((high - low).max(), 1.25)
    turn = rng.normal(0, 0.03)
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) * scale
    centre = UNITS / 2 + rng.uniform(-1, 1, 2) * np.maximum(0, (UNITS * 0.95 - (high - low) * scale) / 2) * 0.5
    wave, phase = rng.uniform(0.02, 0.05, 2), rng.uniform(0, 6.28, 2)

    def place(p: Array) -> Array:
        q = (p - (low + high) / 2) @ rotation + centre
        return q + 1.6 * np.sin(q[:, ::-1] * wave + phase)

    for piece in pieces:
        piece.outline, piece.grain = place(piece.outline), place(piece.grain)
        piece.seams, piece.stitches = [place(p) for p in piece.seams], [place(p) for p in piece.stitches]
        piece.flare = (float(piece.flare[0] * scale), float(piece.flare[1] * scale))


def draw(rng: np.random.Generator, *, size: int = UNITS) -> tuple[Array, Array, str]:
    """One picture of one garment.

    Returns (rgb, region, category): uint8 (size, size, 3); uint8 (size, size), 1 = clothing; a key of `GARMENTS`.
    The same generator state gives the same picture.
    """
    category = list(GARMENTS)[rng.integers(len(GARMENTS))]
    pieces = GARMENTS[category](rng)
    _fit(rng, pieces)
    canvas = _Canvas(rng, size)
    outlines = [piece.outline for piece in pieces]
    whole = (0, 0, size, size)

    def silhouette(pen: ImageDraw.ImageDraw, place: Callable) -> None:
        for outline in outlines:
            pen.polygon(place(outline), fill=255)

    cast = canvas._mask(whole, silhouette)
    soft, dx, dy = rng.uniform(4, 11), rng.uniform(-6, 6), rng.uniform(2, 7)
    shadow = np.roll(_blurred(cast, soft * canvas.scale), (int(dy * canvas.scale), int(dx * canvas.scale)), (0, 1))
    canvas.pixels *= 1 - rng.uniform(0.15, 0.4) * shadow[..., None]
    for piece in pieces:
        canvas.paint(piece)
    weave = rng.standard_normal((size, size), np.float32) * (0.004 + 0.008 * canvas.region)
    rgb = np.clip((canvas.pixels + weave[..., None]) * 255 + 0.5, 0, 255).astype(np.uint8)
    return rgb, (canvas.region > 0.5).astype(np.uint8), category


def _chunk(seed: int, indices: range) -> list[tuple[bytes, bytes, str]]:
    examples = []
    for index in indices:
        rgb, region, category = draw(np.random.default_rng([seed, index]))
        image, outline = io.BytesIO(), io.BytesIO()
        Image.fromarray(rgb).save(image, "JPEG", quality=95)
        Image.fromarray(region * np.uint8(255)).convert("1").save(outline, "PNG")
        examples.append((image.getvalue(), outline.getvalue(), category))
    return examples


def encoded(seed: int, indices: range, processes: int) -> Iterator[tuple[bytes, bytes, str]]:
    """(image as JPEG, region as 1-bit PNG, category) of each index, in order; each a pure function of (seed, index)."""
    chunks = [indices[k : k + CHUNK] for k in range(0, len(indices), CHUNK)]
    if processes < 2 or len(chunks) < 2:
        for chunk in chunks:
            yield from _chunk(seed, chunk)
        return
    # forkserver: safe beside the threads of a program that has already started JAX.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("forkserver")) as pool:
        for examples in pool.map(_chunk, [seed] * len(chunks), chunks):
            yield from examples
