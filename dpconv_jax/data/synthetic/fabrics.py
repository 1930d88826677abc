"""The cloth that `tailor` cuts: colours, woven and printed patterns, all functions of the cloth's own coordinates.

A fabric maps u (across the grain) and v (along it), float32 arrays (h, w) in 256ths of the picture's side, to colours,
float32 (h, w, 3) in [0, 1]. Because it is asked in the coordinates of each piece, its pattern turns with the sleeves.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Fabric = Callable[[Array, Array], Array]

# Colours that clothes are sold in; a row of similar lightness each.
PALETTE = (
    np.array(
        [
            (245, 242, 235), (232, 222, 205), (236, 219, 214), (214, 224, 232), (222, 228, 212), (243, 232, 190),
            (201, 173, 138), (178, 186, 160), (158, 181, 205), (214, 164, 160), (187, 172, 204), (222, 182, 92),
            (168, 118, 78), (116, 130, 98), (92, 130, 168), (186, 92, 74), (136, 104, 150), (196, 72, 88),
            (94, 66, 50), (64, 82, 62), (38, 58, 98), (112, 34, 46), (30, 92, 98), (92, 96, 104),
            (44, 46, 52), (26, 32, 54), (32, 46, 42), (66, 34, 42), (28, 28, 30), (70, 74, 84),
        ],
        np.float32,
    )
    / 255
)  # fmt: skip
INDIGO = np.array([(34, 46, 78), (58, 82, 122), (104, 134, 172), (158, 182, 208)], np.float32) / 255


def lightness(colour: Array) -> float:
    """Rec. 709 luma of one colour (3,)."""
    return float(colour @ np.array([0.2126, 0.7152, 0.0722], np.float32))


def colour(rng: np.random.Generator) -> Array:
    """A colour of the palette, slightly off; float32 (3,)."""
    picked = PALETTE[rng.integers(len(PALETTE))]
    return np.clip(picked + rng.normal(0, 0.02, 3), 0.04, 0.98).astype(np.float32)


def against(rng: np.random.Generator, other: Array, *, contrast: float = 0.25) -> Array:
    """A colour whose lightness differs from `other`'s by at least `contrast`."""
    far = [c for c in PALETTE if abs(lightness(c) - lightness(other)) >= contrast]
    return np.clip(far[rng.integers(len(far))] + rng.normal(0, 0.015, 3), 0.04, 0.98).astype(np.float32)


def _band(x: Array, period: float, width: float) -> Array:
    """1 inside bands of `width` repeating every `period`, 0 between, with edges one pixel soft."""
    distance = np.abs(np.mod(x, period) - period / 2)
    return np.clip(width / 2 - distance + 0.5, 0, 1)


def _mix(a: Array, b: Array, share: Array) -> Array:
    return a + (b - a) * share[..., None]


def plain(base: Array) -> Fabric:
    return lambda u, v: np.broadcast_to(base, (*u.shape, 3))


def stripes(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    period, across = rng.uniform(7, 26), rng.random() < 0.65
    width = period * float(rng.choice([0.18, 0.35, 0.5]))
    third = against(rng, base, contrast=0.15) if rng.random() < 0.35 else None

    def weave(u: Array, v: Array) -> Array:
        along = v if across else u
        cloth = _mix(base, accent, _band(along, period, max(width, 1.4)))
        return cloth if third is None else _mix(cloth, third, _band(along + period / 2, period, period * 0.12))

    return weave


def gingham(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    period = rng.uniform(8, 20)
    return lambda u, v: _mix(base, accent, 0.5 * (_band(u, period, period / 2) + _band(v, period, period / 2)))


def tartan(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    sett = rng.uniform(22, 44)
    third = against(rng, accent, contrast=0.2)
    bands = [(rng.uniform(0, sett), sett * rng.uniform(0.05, 0.3), accent if i % 2 else third) for i in range(4)]

    def weave(u: Array, v: Array) -> Array:
        warp, weft = (np.broadcast_to(base, (*u.shape, 3)) for _ in range(2))
        for offset, width, ink in bands:
            warp = _mix(warp, ink, 0.8 * _band(u + offset, sett, width))
            weft = _mix(weft, ink, 0.8 * _band(v + offset, sett, width))
        return 0.5 * (warp + weft)

    return weave


def windowpane(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    period, width = rng.uniform(16, 34), rng.uniform(1.1, 2.2)
    return lambda u, v: _mix(base, accent, 0.85 * np.maximum(_band(u, period, width), _band(v, period * 1.15, width)))


def dots(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    pitch = rng.uniform(7, 20)
    radius = pitch * rng.uniform(0.16, 0.3)

    def weave(u: Array, v: Array) -> Array:
        a, b = (u + v) / pitch, (u - v) / pitch  # a lattice turned by 45 degrees
        distance = np.hypot(a - np.round(a), b - np.round(b)) * (pitch / math.sqrt(2))
        return _mix(base, accent, np.clip(radius - distance + 0.5, 0, 1))

    return weave


def argyle(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    width, height = rng.uniform(20, 34), rng.uniform(30, 48)
    third = against(rng, accent, contrast=0.2)

    def weave(u: Array, v: Array) -> Array:
        a, b = u / width + v / height, u / width - v / height
        diamonds = np.clip((0.25 - np.abs(np.mod(a, 1) - 0.5)) * width * 0.7 + 0.5, 0, 1)
        diamonds = diamonds * np.clip((0.25 - np.abs(np.mod(b, 1) - 0.5)) * width * 0.7 + 0.5, 0, 1)
        lines = np.maximum(
            _band((a + 0.5) * width * 0.7, width * 0.7, 1.1), _band((b + 0.5) * width * 0.7, width * 0.7, 1.1)
        )
        return _mix(_mix(base, accent, diamonds), third, 0.8 * lines)

    return weave


def knit(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    """Rows of V-shaped stitches, at times with bands of a second yarn."""
    stitch, bands = rng.uniform(4.0, 6.5), rng.random() < 0.4
    period = rng.uniform(30, 70)

    def weave(u: Array, v: Array) -> Array:
        slant = np.abs(np.mod(u / stitch, 1) - 0.5) * stitch
        relief = np.sin((v + slant * 1.3) * (2 * math.pi / (stitch * 0.8))) * 0.07 - 0.16 * (slant < stitch * 0.1)
        cloth = _mix(base, accent, _band(v, period, period * 0.3)) if bands else base
        return cloth * (1 + relief.astype(np.float32))[..., None]

    return weave


def cable(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    """Plaited columns between ribs."""
    pitch, turn = rng.uniform(17, 26), rng.uniform(13, 20)

    def weave(u: Array, v: Array) -> Array:
        x = (np.mod(u / pitch, 1) - 0.5) * 2
        swing = np.sin(v * (2 * math.pi / turn)) * 0.28
        strands = np.exp(-(((x - swing) / 0.2) ** 2)) + 0.8 * np.exp(-(((x + swing) / 0.2) ** 2))
        ribs = 0.5 + 0.5 * np.cos(u * (2 * math.pi / (pitch / 5)))
        relief = np.where(np.abs(x) < 0.56, strands * 0.22 - 0.16, ribs * 0.14 - 0.12)
        return base * (1 + relief.astype(np.float32))[..., None]

    return weave


def rib(base: Array, *, pitch: float = 3.6) -> Fabric:
    """The stretchy edge of knitwear: fine furrows along the grain."""
    return lambda u, v: base * (0.93 + 0.09 * np.cos(u * (2 * math.pi / pitch)))[..., None]


def corduroy(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    return rib(base, pitch=rng.uniform(3.2, 5.5))


def denim(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    """Indigo twill, worn pale along the middle of each piece."""
    dye = INDIGO[rng.integers(len(INDIGO))]
    wear = rng.uniform(0, 0.3)

    def weave(u: Array, v: Array) -> Array:
        twill = 0.03 * np.sin((u + v) * (2 * math.pi / 2.7)) + 0.03 * np.sin(v * 1.9 + 3 * np.sin(u * 0.37))
        pale = wear * np.exp(-((u / 16) ** 2) - ((v - 70) / 70) ** 2)
        return np.clip(_mix(dye, np.array([0.82, 0.88, 0.94], np.float32), pale) * (1 + twill)[..., None], 0, 1)

    return weave


def herringbone(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    column, pitch = rng.uniform(8, 15), rng.uniform(3.4, 5.0)
    yarn = base + (accent - base) * 0.4

    def weave(u: Array, v: Array) -> Array:
        zigzag = np.abs(np.mod(u / column, 2) - 1) * column
        return _mix(base, yarn, 0.5 + 0.5 * np.sin((v + zigzag) * (2 * math.pi / pitch)))

    return weave


def petals(x: float, y: float, radius: float, count: int, turn: float) -> list[tuple[float, float]]:
    angle = np.linspace(0, 2 * math.pi, 12 * count, endpoint=False)
    reach = radius * (0.62 + 0.38 * np.cos(count * angle))
    return list(zip(x + reach * np.cos(angle + turn), y + reach * np.sin(angle + turn), strict=True))


def _leaf(x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    t = np.linspace(-1, 1, 9)
    side = 0.36 * (1 - t**2)
    lx, ly = np.concatenate([t, t[::-1]]) * radius, np.concatenate([side, -side[::-1]]) * radius
    return list(zip(x + lx * np.cos(turn) - ly * np.sin(turn), y + lx * np.sin(turn) + ly * np.cos(turn), strict=True))


def motifs(rng: np.random.Generator, base: Array, accent: Array) -> Fabric:
    """A print: flowers, leaves or confetti scattered on a tile that repeats without a seam."""
    scale = 6  # tile pixels per unit while drawing; halved twice for smooth edges
    pitch = int(rng.integers(32, 60))
    side, kind = pitch * scale, rng.integers(4)
    inks = [
        tuple(int(255 * c) for c in ink)
        for ink in (accent, against(rng, base, contrast=0.2), PALETTE[rng.integers(12, 24)])
    ]
    tile = Image.new("RGB", (side, side), tuple(int(255 * c) for c in base))
    pen = ImageDraw.Draw(tile)
    cells = int(rng.integers(2, 5))
    step = side / cells
    for cell in range(cells * cells):
        x, y = (np.array(divmod(cell, cells)) + 0.5 + rng.uniform(-0.22, 0.22, 2)) * step
        radius, turn, ink = step * rng.uniform(0.26, 0.5), rng.uniform(0, 2 * math.pi), inks[rng.integers(3)]
        for dx in [0, side if x < step else -side] if x < step or x > side - step else [0]:
            for dy in [0, side if y < step else -side] if y < step or y > side - step else [0]:
                px, py = x + dx, y + dy
                if kind == 0:
                    for way in (-0.5, 0.6):
                        lx, ly = px + radius * 0.8 * np.cos(turn + way), py + radius * 0.8 * np.sin(turn + way)
                        pen.polygon(_leaf(lx, ly, radius * 0.5, turn + way), fill=inks[2])
                    pen.polygon(petals(px, py, radius * 0.8, 5, turn), fill=ink)
                    core = radius * 0.2
                    pen.ellipse((px - core, py - core, px + core, py + core), fill=inks[1])
                elif kind == 1:
                    for way in (0.0, 0.9, -0.9):
                        lx, ly = px + radius * 0.5 * np.cos(turn + way), py + radius * 0.5 * np.sin(turn + way)
                        pen.polygon(_leaf(lx, ly, radius * 0.55, turn + way), fill=ink)
                elif kind == 2:
                    pen.polygon(petals(px, py, radius * 0.7, 3 + cell % 3, turn), fill=ink)
                else:
                    pen.polygon(_leaf(px, py, radius * 0.8, turn), fill=ink)
    cloth = np.asarray(tile.reduce(3), np.float32) / 255
    texels = scale // 3

    def weave(u: Array, v: Array) -> Array:
        limit = cloth.shape[0]
        return cloth[(v * texels).astype(np.int32) % limit, (u * texels).astype(np.int32) % limit]

    return weave


PATTERNS = {
    "plain": lambda rng, base, accent: plain(base),
    "stripes": stripes,
    "gingham": gingham,
    "tartan": tartan,
    "windowpane": windowpane,
    "dots": dots,
    "argyle": argyle,
    "motifs": motifs,
    "knit": knit,
    "cable": cable,
    "corduroy": corduroy,
    "denim": denim,
    "herringbone": herringbone,
}
