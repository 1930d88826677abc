"""The parts that garments are sewn from: curves, bodices, sleeves, collars, pockets and skirts, cut from `fabrics`.

Lengths are in a shoulder's breadth, x to the right of the garment's middle and y down from its neck or waist.
"""

import dataclasses
import functools
import math
from typing import TypeVar

import numpy as np

from dpconv_jax.data.synthetic import fabrics
from dpconv_jax.data.synthetic.fabrics import Array, Fabric

T = TypeVar("T")


@dataclasses.dataclass
class Piece:
    """One piece of cloth. Points are (n, 2); `grain` runs from its top centre to its bottom centre."""

    outline: Array
    fabric: Fabric
    grain: Array = dataclasses.field(default_factory=lambda: np.array([(0.0, 0.0), (0.0, 1.0)]))  # (2, 2)
    flare: tuple[float, float] = (1.0, 1.0)  # half widths at the two ends of the grain; the pattern spreads with them
    folds: str = "none"  # "soft", "drape", "pleats", "crease", "quilt" or "none"
    tone: float = 1.0  # below 1: an inside, in shadow
    lift: float = 1.0  # strength of the shadow it casts on what lies below
    seams: list[Array] = dataclasses.field(default_factory=list)
    stitches: list[Array] = dataclasses.field(default_factory=list)
    waves: Array = dataclasses.field(
        default_factory=lambda: np.zeros((3, 0))
    )  # (3, n) amplitude, frequency, phase of the drape, shared with the hem


@functools.lru_cache(maxsize=64)
def _spline_basis(steps: int) -> Array:
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    return (
        np.concatenate([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1) / 2
    )


def curve(*points: tuple[float, float] | Array, steps: int = 8) -> Array:
    """A smooth open curve (Catmull-Rom) through the points; (n, 2)."""
    p = np.array(points, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    windows = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], 1)
    return np.concatenate([(_spline_basis(steps) @ windows).reshape(-1, 2), p[-2:-1]])


def down(distance: float) -> Array:
    """The step of `distance` downwards; (2,)."""
    return np.array([0.0, distance])


def mirrored(points: Array) -> Array:
    """The left side of a right side, in the order that closes an outline."""
    return points[::-1] * (-1, 1)


def disc(x: float, y: float, radius: float) -> Array:
    """A small circle; (20, 2)."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def ribbon(line: Array, width: float) -> Array:
    """The outline of a band whose one edge is `line` and whose other lies `width` to its right."""
    tangent = np.gradient(line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / (np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9)
    return np.concatenate([line, (line + width * normal)[::-1]])


@dataclasses.dataclass(frozen=True)
class Cloth:
    """What one garment is made of."""

    main: Fabric
    base: Array
    accent: Array
    pattern: str

    @property
    def solid(self) -> Fabric:
        return fabrics.plain(self.base)

    @property
    def trim(self) -> Fabric:
        return fabrics.plain(self.accent)

    @property
    def ribbed(self) -> Fabric:
        return fabrics.rib(self.base)


def choose_cloth(rng: np.random.Generator, **weights: float) -> Cloth:
    """A cloth whose pattern is drawn from the weighted names of `fabrics.PATTERNS`."""
    names = list(weights)
    share = np.array([weights[name] for name in names])
    pattern = names[rng.choice(len(names), p=share / share.sum())]
    base = fabrics.colour(rng)
    if pattern in ("knit", "cable", "corduroy") and fabrics.lightness(base) < 0.2:
        base = base + 0.12  # black wool shows no stitches
    accent = fabrics.against(rng, base)
    if pattern == "denim":
        base, accent = fabrics.INDIGO[1], np.array([0.78, 0.55, 0.3], np.float32)
    return Cloth(fabrics.PATTERNS[pattern](rng, base, accent), base, accent, pattern)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Half widths and heights of an upper body."""

    neck: float
    shoulder: float
    slope: float
    armhole: float
    chest: float
    waist: float
    waist_y: float
    hem: float
    length: float


def neckline(rng: np.random.Generator, cut: Cut, kind: str, depth: float) -> Array:
    """From the left neck point to the right one."""
    n, lean = cut.neck, rng.normal(0, 0.008)
    if kind == "v":
        half = curve((lean, depth), (n * 0.55, depth * 0.5), (n, 0))
    elif kind == "square":
        half = np.array([(0, depth), (n * 0.93, depth * 0.97), (n, 0)])
    elif kind == "sweetheart":
        half = np.concatenate([curve((0, depth), (n * 0.35, depth * 0.8), (n * 0.85, depth * 0.82)), [(n, 0)]])
    else:
        half = curve((lean, depth), (n * 0.5, depth * 0.9), (n * 0.9, depth * 0.45), (n, 0))
    return np.concatenate([mirrored(half), half[1:]])


def sides(cut: Cut) -> tuple[Array, Array]:
    """The right armhole and the right side seam."""
    tip = (cut.shoulder, cut.slope)
    inner = min(cut.shoulder, cut.chest) - 0.05
    armhole = curve(tip, (inner, cut.slope + 0.55 * (cut.armhole - cut.slope)), (cut.chest, cut.armhole))
    side = curve((cut.chest, cut.armhole), (cut.waist, cut.waist_y), (cut.hem, cut.length))
    return armhole, side


def bodice(
    rng: np.random.Generator,
    cut: Cut,
    neckline: Array,
    cloth: Fabric,
    *,
    folds: str = "soft",
    stitches: tuple[Array, ...] = (),
) -> Piece:
    """The front of an upper body, in one piece."""
    armhole, side = sides(cut)
    hem = curve((cut.hem, cut.length), (0, cut.length + 0.03 + rng.normal(0, 0.01)), (-cut.hem, cut.length))
    outline = np.concatenate([neckline, armhole, side, hem, mirrored(side), mirrored(armhole)])
    grain = np.array([(0, 0), (0, cut.length)], float)
    return Piece(outline, cloth, grain, (cut.chest, cut.hem), folds, stitches=[*stitches])


def back_neck(cut: Cut, neckline: Array, cloth: Fabric) -> Piece:
    """The inside of the back, seen through the neck."""
    top = curve((cut.neck, -0.01), (0, 0.055), (-cut.neck, -0.01))
    return Piece(np.concatenate([neckline, top]), cloth, tone=0.62, lift=0.0, seams=[top + down(0.045)])


def sleeves(
    rng: np.random.Generator, cut: Cut, cloth: Fabric, length: float, cuff: float, *, ribbed: Fabric | None = None
) -> list[Piece]:
    """Both sleeves, each with its cuff; `length` is measured from the armhole, `cuff` is the opening."""
    pieces = []
    spread, bend = rng.uniform(0.14, 0.5), rng.uniform(-0.04, 0.09)
    shoulder, pit = np.array([cut.shoulder, cut.slope]), np.array([cut.chest, cut.armhole])
    for side in (1, -1):
        angle, reach = spread + rng.normal(0, 0.035), length * (1 + rng.normal(0, 0.015))
        along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
        root = (shoulder + pit) / 2
        end, elbow = root + along * reach, root + along * reach * 0.5 + across * bend * reach
        upper = float(np.linalg.norm(shoulder - pit)) / 2
        middle = 0.48 * upper + 0.27 * cuff
        outer = curve(
            shoulder, root * 0.7 + elbow * 0.3 + across * upper * 0.84, elbow + across * middle, end + across * cuff / 2
        )
        inner = curve(end - across * cuff / 2, elbow - across * middle, pit)
        edge = curve(outer[-1], end + along * 0.025, inner[0])
        under = np.array([(cut.chest - 0.2, cut.armhole - 0.02), (cut.shoulder - 0.16, cut.slope + 0.03)])  # the body
        flip = np.array([side, 1])
        hem = [curve(outer[-1] - along * 0.05, end - along * 0.025, inner[0] - along * 0.05) * flip]
        grain = np.stack([root, end]) * flip
        pieces.append(
            Piece(
                np.concatenate([outer, edge, inner, under]) * flip,
                cloth,
                grain,
                (upper, cuff / 2),
                "sleeve",
                0.97,
                0.6,
                stitches=[] if ribbed else hem,
            )
        )
        if ribbed:
            depth = 0.11
            band = np.concatenate([edge, [inner[0] - along * depth, outer[-1] - along * depth]])
            pieces.append(Piece(band * flip, ribbed, grain, (cuff / 2, cuff / 2), "none", 0.95, 0.3))
    return pieces


def buttons(xs: list[float], ys: Array, radius: float, colour: Array) -> list[Piece]:
    """One button at every crossing of the columns `xs` and the rows `ys`."""
    return [Piece(disc(x, y, radius), fabrics.plain(colour), lift=0.8) for y in ys for x in xs]


def shirt_collar(rng: np.random.Generator, cut: Cut, depth: float, cloth: Fabric) -> list[Piece]:
    """A turned-down collar: the band behind the neck and its two leaves."""
    n, point = cut.neck, rng.uniform(0.12, 0.2)
    back = np.concatenate([curve((-n, 0), (0, -0.1), (n, 0)), curve((n, 0.03), (0, 0.035), (-n, 0.03))])
    pieces = [Piece(back, cloth, tone=0.8, lift=0.0)]
    for side in (1, -1):
        sway = rng.normal(0, 0.012)
        leaf = np.concatenate(
            [
                curve((0.008, depth), (n * 0.66, depth * 0.42), (n - 0.015, -0.045)),
                curve((n + 0.03, -0.01), (n + 0.055, 0.06)),
                curve((n * 0.72 + sway, depth + point), (0.008, depth)),
            ]
        )
        stitch = leaf[-12:] * 0.97 + leaf.mean(0) * 0.03
        grain = np.array([(0.0, 0.0), (0.5, 1.0)])
        flip = np.array([side, 1])
        pieces.append(Piece(leaf * flip, cloth, grain * flip, (1, 1), "none", 1.03, 1.0, stitches=[stitch * flip]))
    return pieces


def pocket(x: float, y: float, width: float, height: float, cloth: Fabric, *, flap: bool = False) -> Piece:
    """A patch pocket with a point, or a straight flap; its top edge is centred on (x, y)."""
    w = width / 2
    point = 0.0 if flap else height * 0.16
    outline = np.array(
        [(x - w, y), (x + w, y), (x + w, y + height - point), (x, y + height), (x - w, y + height - point)]
    )
    inset = (outline - (x, y + height / 2)) * 0.86 + (x, y + height / 2)
    return Piece(outline, cloth, lift=0.5, stitches=[inset[[1, 2, 3, 4, 0]]])


def either(rng: np.random.Generator, usual: T, other: T, chance: float) -> T:
    """`other` with the given chance, else `usual`."""
    return other if rng.random() < chance else usual


def hemline(cut: Cut) -> Array:
    """The stitching above the hem."""
    return curve((-cut.hem, cut.length - 0.05), (0, cut.length + -0.02), (cut.hem, cut.length - 0.05))


def emblem(rng: np.random.Generator, cloth: Cloth) -> list[Piece]:
    """A printed badge on the chest."""
    x, y, size = rng.normal(0, 0.01), rng.uniform(0.46, 0.56), rng.uniform(0.12, 0.2)
    other = fabrics.plain(fabrics.against(rng, cloth.base, contrast=0.15))
    kind = rng.integers(3)
    flat = functools.partial(Piece, lift=0.0)
    if kind == 0:  # sun over waves
        ridges = [
            curve((x - size, y + k), (x - size / 3, y + k - 0.03), (x + size / 3, y + k + 0.03), (x + size, y + k))
            for k in (0.06, 0.13)
        ]
        return [flat(disc(x, y - 0.02, size * 0.7), cloth.trim), *(flat(ribbon(r, 0.035), other) for r in ridges)]
    if kind == 1:  # flower
        petals = np.array(fabrics.petals(x, y, size, int(rng.integers(5, 8)), rng.uniform(0, 6)))
        return [flat(petals, cloth.trim), flat(disc(x, y, size * 0.25), other)]
    return [
        flat(np.array([(x - w, y + dy), (x + w, y + dy), (x + w, y + dy + 0.05), (x - w, y + dy + 0.05)]), ink)
        for w, dy, ink in zip(
            size * rng.uniform(0.7, 1.3, 3), (-0.1, -0.01, 0.08), (cloth.trim, other, cloth.trim), strict=True
        )
    ]


def _waves(rng: np.random.Generator, rich: float) -> Array:
    count = 4
    return np.stack(
        [
            rng.uniform(0.4, 1, count) * rich,
            rng.uniform(0.7, 1.3, count) * (1.0, 1.7, 2.6, 3.9),
            rng.uniform(0, 6.28, count),
        ]
    )


def ripple(waves: Array, s: Array) -> Array:
    """The folds' relief at the place s in [-1, 1] across a draped skirt, about [-1, 1]."""
    return sum(a / 1.6 * np.cos(math.pi * f * s + p) for a, f, p in waves.T.tolist())


def skirt(
    rng: np.random.Generator, cloth: Fabric, y: float, length: float, half: tuple[float, float, float], folds: str
) -> Piece:
    """A skirt hanging from height `y`; half widths of waist, hip (0: it falls straight) and hem."""
    waist, hip, hem = half
    waves = _waves(rng, float(np.clip((hem - waist) * 1.6, 0.15, 1)))
    bottom = y + length
    side = (
        curve((waist, y), (hip, y + min(0.32, length * 0.4)), (hem, bottom))
        if hip
        else curve((waist, y), (hem, bottom))
    )
    s = np.linspace(1, -1, 60)
    scallop = 0.035 * ripple(waves, s) if folds == "drape" else 0.012 * (np.mod(s * 8, 1) < 0.5) * (folds == "pleats")
    edge = np.stack([s * hem, bottom + 0.06 * hem / 0.6 * (1 - s**2) + scallop], 1)
    outline = np.concatenate([curve((-waist, y), (0, y + 0.02), (waist, y)), side[:-1], edge, mirrored(side)[1:]])
    stitch = [] if folds == "pleats" else [edge + down(-0.045)]
    return Piece(outline, cloth, np.array([(0, y), (0, bottom)]), (waist, hem), folds, waves=waves, stitches=stitch)
