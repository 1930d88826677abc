"""The garments themselves: tops, dresses, trousers, skirts and coats, each a list of pieces from back to front.

Lengths are in a shoulder's breadth, x to the right of the garment's middle and y down from its neck or waist.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dpconv_jax.data.synthetic import fabrics, tailor
from dpconv_jax.data.synthetic.tailor import Cut, Piece, curve


def top(rng: np.random.Generator) -> list[Piece]:
    """T-shirts, tank tops, shirts, jumpers and sweatshirts."""
    style = rng.choice(["tee", "tank", "shirt", "jumper", "hoodie"], p=[0.3, 0.14, 0.24, 0.22, 0.1])
    loose = rng.uniform(0, 0.08)
    cut = Cut(
        neck=rng.uniform(0.17, 0.23),
        shoulder=rng.uniform(0.43, 0.49) + loose / 2,
        slope=rng.uniform(0.09, 0.15),
        armhole=rng.uniform(0.46, 0.55),
        chest=rng.uniform(0.44, 0.5) + loose,
        waist=rng.uniform(0.4, 0.49) + loose,
        waist_y=0.9,
        hem=rng.uniform(0.43, 0.5) + loose,
        length=rng.uniform(1.15, 1.45),
    )
    if style == "tank":
        cut = dataclasses.replace(
            cut,
            shoulder=cut.neck + rng.uniform(0.06, 0.14),
            slope=0.03,
            armhole=0.5,
            chest=rng.uniform(0.38, 0.44),
            waist=0.38 + loose,
        )
        cloth = tailor.choose_cloth(rng, plain=3, stripes=2, dots=1, motifs=2, knit=1)
        line = tailor.neckline(rng, cut, rng.choice(["round", "v", "square"]), rng.uniform(0.25, 0.42))
        armhole, _ = tailor.sides(cut)
        edges = [
            tailor.ribbon(line, 0.03)[: len(line) - 1 : -1],
            armhole - (0.025, 0),
            (armhole - (0.025, 0)) * (-1, 1),
        ]
        body = tailor.bodice(rng, cut, line, cloth.main, stitches=(*edges, tailor.hemline(cut)))
        return [tailor.back_neck(cut, line, cloth.solid), body]
    if style == "tee":
        cloth = tailor.choose_cloth(rng, plain=3, stripes=3, dots=1, motifs=2, argyle=0.3, windowpane=0.5)
        line = tailor.neckline(rng, cut, rng.choice(["round", "v"], p=[0.7, 0.3]), rng.uniform(0.13, 0.28))
        sleeves = tailor.sleeves(
            rng, cut, tailor.either(rng, cloth.main, cloth.trim, 0.15), rng.uniform(0.22, 0.5), rng.uniform(0.3, 0.38)
        )
        neckband = Piece(
            tailor.ribbon(line, 0.045), tailor.either(rng, cloth.ribbed, cloth.trim, 0.25), tone=0.98, lift=0.2
        )
        pieces = [
            tailor.back_neck(cut, line, cloth.solid),
            *sleeves,
            tailor.bodice(rng, cut, line, cloth.main, stitches=(tailor.hemline(cut),)),
            neckband,
        ]
        if cloth.pattern == "plain" and rng.random() < 0.6:
            pieces += tailor.emblem(rng, cloth)
        elif rng.random() < 0.3:
            pieces.append(tailor.pocket(0.2, 0.42, 0.17, 0.19, cloth.main))
        return pieces
    if style == "shirt":
        cloth = tailor.choose_cloth(
            rng, plain=3, stripes=2.5, gingham=2, tartan=2, windowpane=1, dots=1, motifs=1, denim=0.8
        )
        depth = rng.uniform(0.16, 0.24)
        line = tailor.neckline(rng, cut, "v", depth)
        cuffs = fabrics.plain(cloth.base) if cloth.pattern == "denim" else cloth.main
        sleeves = tailor.sleeves(
            rng, cut, cloth.main, *((1.0, 0.19) if rng.random() < 0.7 else (0.36, 0.33)), ribbed=cuffs
        )
        curved = rng.uniform(0.0, 0.1)
        body = tailor.bodice(rng, dataclasses.replace(cut, length=cut.length - curved), line, cloth.main)
        body.outline[:, 1] += (
            curved
            * np.cos(np.clip(body.outline[:, 0] / cut.hem, -1, 1) * np.pi / 2)
            * (body.outline[:, 1] > cut.length * 0.9)
        )
        body.seams = [np.array([(0.045, depth + 0.03), (0.045, cut.length - 0.01)])]
        body.stitches = [np.array([(x, depth + 0.03), (x, cut.length - 0.01)]) for x in (-0.04, 0.03)]
        body.seams += [np.array([(s * cut.neck * 0.95, 0.05), (s * cut.shoulder, cut.slope + 0.06)]) for s in (1, -1)]
        button = tailor.either(rng, np.array([0.93, 0.92, 0.88]), cloth.accent, 0.4)
        pieces = [
            tailor.back_neck(cut, line, cloth.solid),
            *sleeves,
            body,
            *tailor.shirt_collar(rng, cut, depth, cloth.main),
        ]
        pieces += tailor.buttons([0.0], np.arange(depth + 0.1, cut.length - 0.08, 0.185), 0.016, button)
        return [*pieces, tailor.pocket(0.24, 0.42, 0.19, 0.21, cloth.main)] if rng.random() < 0.5 else pieces
    cloth = (
        tailor.choose_cloth(rng, knit=4, cable=3, stripes=1, argyle=1.2, plain=0.5)
        if style == "jumper"
        else tailor.choose_cloth(rng, plain=3, stripes=0.5, knit=0.5)
    )
    line = tailor.neckline(rng, cut, rng.choice(["round", "v"], p=[0.75, 0.25]), rng.uniform(0.12, 0.22))
    sleeves = tailor.sleeves(
        rng, cut, cloth.main, rng.uniform(0.88, 1.02), rng.uniform(0.17, 0.22), ribbed=cloth.ribbed
    )
    body = tailor.bodice(rng, cut, line, cloth.main)
    band_y = cut.length - 0.11
    edge = cut.hem + (cut.waist - cut.hem) * 0.11 / (cut.length - cut.waist_y)
    band = np.concatenate(
        [
            curve((-edge, band_y), (0, band_y + 0.03), (edge, band_y)),
            curve((cut.hem - 0.02, cut.length + 0.02), (0, cut.length + 0.05), (0.02 - cut.hem, cut.length + 0.02)),
        ]
    )
    pieces = [tailor.back_neck(cut, line, cloth.solid), *sleeves, body, Piece(band, cloth.ribbed, tone=0.97, lift=0.2)]
    if style == "jumper":
        pieces.append(Piece(tailor.ribbon(line, 0.065), cloth.ribbed, lift=0.4))
        return pieces
    hood = [
        curve(
            (-cut.neck - 0.1, 0.1),
            (-cut.neck - 0.07, -0.12),
            (0, -0.27),
            (cut.neck + 0.07, -0.12),
            (cut.neck + 0.1, 0.1),
        ),
        curve((cut.neck * 0.6, 0.2), (0, 0.3), (-cut.neck * 0.6, 0.2)),
    ]
    opening = np.concatenate(
        [
            curve((-cut.neck * 0.8, 0.0), (0, -0.15), (cut.neck * 0.8, 0.0)),
            curve((cut.neck * 0.45, 0.15), (0, 0.25), (-cut.neck * 0.45, 0.15)),
        ]
    )
    pouch = np.concatenate(
        [
            curve((-0.17, 0.82), (0.17, 0.82)),
            curve((0.3, 1.02), (0.3, band_y - 0.01)),
            curve((-0.3, band_y - 0.01), (-0.3, 1.02)),
        ]
    )
    pieces += [
        Piece(np.concatenate(hood), cloth.main),
        Piece(opening, cloth.solid, tone=0.55, lift=0.0),
        Piece(pouch, cloth.main, lift=0.5, stitches=[pouch * 0.96 + pouch.mean(0) * 0.04]),
    ]
    for side in (1, -1):
        cord = curve((side * 0.09, 0.24), (side * 0.1, 0.4), (side * 0.08, 0.52 + rng.normal(0, 0.03)))
        pieces.append(Piece(tailor.ribbon(cord, 0.018), cloth.trim, lift=0.8))
    return pieces


def dress(rng: np.random.Generator) -> list[Piece]:
    """Sundresses, shift dresses, A-lines and gowns."""
    cloth = tailor.choose_cloth(
        rng, plain=2.5, motifs=4, dots=2, stripes=1.5, gingham=1.5, tartan=0.7, knit=0.4, denim=0.4
    )
    bare = rng.random() < 0.45
    waist_y, waist = rng.uniform(0.72, 0.9), rng.uniform(0.31, 0.37)
    cut = Cut(
        neck=rng.uniform(0.18, 0.25),
        shoulder=rng.uniform(0.4, 0.45),
        slope=rng.uniform(0.08, 0.12),
        armhole=rng.uniform(0.42, 0.48),
        chest=rng.uniform(0.38, 0.42),
        waist=waist + 0.01,
        waist_y=waist_y * 0.92,
        hem=waist,
        length=waist_y,
    )
    if bare:
        cut = dataclasses.replace(cut, shoulder=cut.neck + rng.uniform(0.035, 0.12), slope=0.02)
    kind = rng.choice(["round", "v", "square", "sweetheart"] if bare else ["round", "v", "square"])
    line = tailor.neckline(rng, cut, kind, rng.uniform(0.2, 0.42) if bare else rng.uniform(0.12, 0.34))
    folds = rng.choice(["drape", "pleats", "soft"], p=[0.6, 0.2, 0.2])
    hem = rng.uniform(0.36, 0.46) if folds == "soft" else rng.uniform(0.5, 0.95)
    skirt = tailor.skirt(
        rng,
        cloth.main,
        waist_y - 0.02,
        rng.uniform(0.8, 1.7),
        (waist, waist + 0.06 if folds == "soft" else 0.0, hem),
        folds,
    )
    pieces = [tailor.back_neck(cut, line, cloth.solid), skirt]
    if not bare:
        puff = rng.random() < 0.3
        length = rng.uniform(0.2, 0.32) if puff else float(rng.choice([0.25, 0.45, 0.9]))
        pieces += tailor.sleeves(
            rng, cut, cloth.main, length, 0.3 if length < 0.6 else 0.2, ribbed=cloth.ribbed if puff else None
        )
    darts = [curve((s * 0.2, cut.length), (s * 0.19, cut.length - 0.15), (s * 0.21, cut.length - 0.3)) for s in (1, -1)]
    pieces.append(
        dataclasses.replace(
            tailor.bodice(rng, cut, line, cloth.main, stitches=(tailor.ribbon(line, 0.028)[: len(line) - 1 : -1],)),
            seams=darts,
        )
    )
    finish = rng.random()
    if finish < 0.4:
        belt = np.concatenate(
            [
                curve((-waist - 0.01, waist_y - 0.06), (0, waist_y - 0.035), (waist + 0.01, waist_y - 0.06)),
                curve((waist + 0.01, waist_y + 0.03), (0, waist_y + 0.055), (-waist - 0.01, waist_y + 0.03)),
            ]
        )
        pieces.append(Piece(belt, tailor.either(rng, cloth.trim, cloth.solid, 0.4), tone=0.95, lift=0.8))
    elif finish < 0.6:
        pieces += tailor.buttons([0.0], np.arange(line[:, 1].max() + 0.06, waist_y - 0.03, 0.1), 0.016, cloth.accent)
    elif finish < 0.75 and folds == "drape":
        tier = waist_y + rng.uniform(0.35, 0.6)
        share = (tier - waist_y) / (skirt.grain[1, 1] - waist_y)
        half = waist + (hem - waist) * share
        skirt.seams.append(curve((-half, tier), (0, tier + 0.06), (half, tier)))
    return pieces


def trousers(rng: np.random.Generator) -> list[Piece]:
    """Jeans, pressed trousers, joggers, wide legs and shorts."""
    cloth = tailor.choose_cloth(
        rng, denim=3.5, plain=3, corduroy=1.5, herringbone=1, tartan=0.6, windowpane=0.6, stripes=0.5, motifs=0.3
    )
    short = rng.random() < 0.22
    length = rng.uniform(0.95, 1.25) if short else rng.uniform(1.95, 2.25)
    waist, hip, rise = rng.uniform(0.31, 0.36), rng.uniform(0.4, 0.45), rng.uniform(0.58, 0.7)
    stance = rng.uniform(0.02, 0.16) * (length - rise)
    hem = rng.uniform(0.36, 0.44) if short else float(rng.choice([0.19, 0.24, 0.3, 0.4]))
    slim = 0.0 if short else rng.uniform(0.0, 0.05) + 0.25 * max(hem - 0.28, 0)  # taken off at the knee
    jogger = not short and cloth.pattern == "plain" and rng.random() < 0.35
    crease = not jogger and cloth.pattern in ("plain", "herringbone", "windowpane", "stripes", "tartan")
    back = np.concatenate(
        [curve((-waist, 0.0), (0, -0.025), (waist, 0.0)), curve((waist, 0.03), (0, 0.09), (-waist, 0.03))]
    )
    pieces = [Piece(back, cloth.solid, tone=0.55, lift=0.0)]
    for side in (-1, 1):
        sway = rng.normal(0, 0.02)
        inner_hem = np.array([0.02 + stance + sway, length + rng.normal(0, 0.01)])
        outer_hem = inner_hem + np.array([hem, -0.02])
        knee_y = (rise + length) / 2 - 0.05
        inner_knee = np.array([0.01 + stance * 0.5 + sway / 2, knee_y])
        outer_knee = (np.array([hip, rise]) + outer_hem) / 2 - (slim, 0)
        outer = curve((waist, 0.05), (hip, 0.38), (hip + 0.005, rise), (outer_knee[0], knee_y), outer_hem)
        cuff = curve(outer_hem, (inner_hem + outer_hem) / 2 + (0, 0.03), inner_hem)
        inner = curve(inner_hem, inner_knee, (0.004, rise + 0.02))
        flip = np.array([side, 1])
        outline = (
            np.concatenate(
                [
                    curve((-0.015, 0.1), (waist * 0.5, 0.085), (waist, 0.05)),
                    outer,
                    cuff,
                    inner,
                    curve((0, rise), (-0.015, 0.12)),
                ]
            )
            * flip
        )
        grain = np.array([(hip * 0.52, 0.05), (inner_hem + outer_hem) / 2]) * flip
        hems = [(cuff + tailor.down(-0.05)) * flip]
        pocket = (
            curve((waist * 0.62, 0.09), (waist * 0.72, 0.26), (hip - 0.01, 0.33))
            if cloth.pattern == "denim"
            else np.array([(waist * 0.75, 0.1), (hip - 0.03, 0.42)])
        )
        stitches = [
            (pocket + np.array([-0.014, 0.014])) * flip,
            *([] if jogger else hems),
            (outer[8:] - (0.03, 0)) * flip * (1, 1),
        ]
        leg = Piece(
            outline,
            cloth.main,
            grain,
            (hip * 0.52, hem / 2),
            "crease" if crease else "leg",
            0.96 if side < 0 else 1.0,
            0.5,
            seams=[pocket * flip],
            stitches=stitches if cloth.pattern == "denim" else stitches[:2],
        )
        pieces.append(leg)
        if jogger:
            edge = np.concatenate([cuff, [inner_hem - (-0.01, 0.12), outer_hem - (0.01, 0.11)]]) * flip
            pieces.append(Piece(edge, cloth.ribbed, grain, (1, 1), "none", 0.95, 0.3))
    fly = curve((0.1, 0.12), (0.1, rise * 0.6), (0.01, rise * 0.86))
    pieces[-2 if jogger else -1].stitches += [fly, fly + np.array([0.02, 0.0])] if not jogger else []
    band = np.concatenate(
        [
            curve((-waist, 0.0), (0, 0.055), (waist, 0.0)),
            curve((waist + 0.006, 0.085), (0, 0.14), (-waist - 0.006, 0.085)),
        ]
    )
    pieces.append(
        Piece(
            band,
            cloth.ribbed if jogger else cloth.main,
            tone=1.03,
            lift=0.4,
            stitches=[] if jogger else [band[:17] + tailor.down(0.015), band[17:] + tailor.down(-0.013)],
        )
    )
    if jogger:
        for side in (1, -1):
            cord = curve((side * 0.03, 0.1), (side * 0.06, 0.24), (side * 0.045, 0.36 + rng.normal(0, 0.03)))
            pieces.append(Piece(tailor.ribbon(cord, 0.016), cloth.trim, lift=0.8))
        return pieces
    for x in (-0.62, 0.62, -0.3, 0.3):
        loop = np.array([(-0.014, 0.0), (0.014, 0.0), (0.014, 0.12), (-0.014, 0.12)])
        loop = loop + np.array([x * waist, 0.045 * (1 - x * x) - 0.005])
        pieces.append(Piece(loop, cloth.main, tone=1.05, lift=0.8))
    metal = np.array([0.72, 0.6, 0.42]) if cloth.pattern == "denim" else cloth.base * 0.7 + 0.1
    return pieces + tailor.buttons([0.03], np.array([0.098]), 0.02, metal)


def skirt(rng: np.random.Generator) -> list[Piece]:
    """Pencil, A-line, pleated and circle skirts."""
    cloth = tailor.choose_cloth(
        rng,
        plain=3,
        tartan=2,
        motifs=2,
        dots=1,
        stripes=1,
        denim=1,
        herringbone=1,
        gingham=1,
        corduroy=0.7,
        windowpane=0.5,
    )
    folds = rng.choice(["drape", "pleats", "soft"], p=[0.45, 0.3, 0.25])
    waist, length = rng.uniform(0.3, 0.36), rng.uniform(0.7, 1.45)
    hem = rng.uniform(0.36, 0.48) if folds == "soft" else rng.uniform(0.55, 0.95)
    body = tailor.skirt(rng, cloth.main, 0.06, length, (waist, 0.44 if folds == "soft" else 0.0, hem), folds)
    back = np.concatenate(
        [curve((-waist, 0.0), (0, -0.03), (waist, 0.0)), curve((waist, 0.03), (0, 0.08), (-waist, 0.03))]
    )
    band = np.concatenate(
        [curve((-waist, 0.0), (0, 0.045), (waist, 0.0)), curve((waist + 0.01, 0.09), (0, 0.135), (-waist - 0.01, 0.09))]
    )
    waistband = Piece(
        band,
        tailor.either(rng, cloth.main, cloth.trim, 0.2),
        tone=0.98,
        lift=0.6,
        stitches=[band[17:] + tailor.down(-0.013)],
    )
    pieces = [Piece(back, cloth.solid, tone=0.55, lift=0.0), body, waistband]
    if folds == "soft":
        body.seams += [
            curve((s * waist * 0.5, 0.11), (s * waist * 0.56, 0.2), (s * waist * 0.55, 0.3)) for s in (1, -1)
        ]
        if rng.random() < 0.5:
            pieces += tailor.buttons([0.0], np.arange(0.2, length, 0.15), 0.02, cloth.accent)
            body.seams.append(np.array([(0.06, 0.12), (0.06, length + 0.1)]))
        elif rng.random() < 0.6:
            pieces += [tailor.pocket(s * 0.21, 0.3, 0.2, 0.22, cloth.main) for s in (1, -1)]
    return pieces


def coat(rng: np.random.Generator) -> list[Piece]:
    """Blazers, overcoats, trench coats, cardigans and quilted jackets."""
    style = rng.choice(["tailored", "trench", "cardigan", "quilted"], p=[0.42, 0.2, 0.2, 0.18])
    long = style == "trench" or (style == "tailored" and rng.random() < 0.6)
    length = rng.uniform(1.75, 2.15) if long else rng.uniform(1.15, 1.4)
    cut = Cut(
        neck=rng.uniform(0.17, 0.21),
        shoulder=rng.uniform(0.48, 0.53),
        slope=rng.uniform(0.1, 0.14),
        armhole=rng.uniform(0.54, 0.6),
        chest=rng.uniform(0.49, 0.54),
        waist=rng.uniform(0.44, 0.52),
        waist_y=0.95,
        hem=rng.uniform(0.52, 0.66) if long else rng.uniform(0.48, 0.54),
        length=length,
    )
    if style == "trench":
        cloth = tailor.choose_cloth(rng, plain=1)
    elif style == "cardigan":
        cloth = tailor.choose_cloth(rng, knit=3, cable=2, stripes=0.6, argyle=0.6)
    elif style == "quilted":
        cloth = tailor.choose_cloth(rng, plain=3, denim=0.4)
    else:
        cloth = tailor.choose_cloth(
            rng, plain=2.5, herringbone=2.5, windowpane=1.2, tartan=1.2, corduroy=0.6, stripes=0.4
        )
    depth = {
        "tailored": rng.uniform(0.5, 0.8),
        "trench": rng.uniform(0.4, 0.6),
        "cardigan": rng.uniform(0.4, 0.7),
        "quilted": 0.1,
    }[style]
    line = tailor.neckline(rng, cut, "round" if style == "quilted" else "v", depth)
    fold = "quilt" if style == "quilted" else "soft"
    lap = {"tailored": rng.choice([0.04, 0.13]), "trench": 0.15, "cardigan": 0.03, "quilted": 0.0}[style]
    sleeves = tailor.sleeves(
        rng,
        cut,
        cloth.main,
        rng.uniform(1.0, 1.12),
        rng.uniform(0.2, 0.25),
        ribbed=cloth.ribbed if style in ("cardigan", "quilted") else None,
    )
    if style == "quilted":
        for sleeve in sleeves[::2]:
            sleeve.folds = "quilt"
    body = tailor.bodice(rng, cut, line, cloth.main, folds=fold)
    body.seams = [
        curve((0.0, depth + 0.01), (lap, depth + 0.08), (lap + 0.005, cut.length + 0.025)),
        *(
            []
            if style == "quilted"
            else [np.array([(0.0, cut.length - (0.35 if long else 0.05)), (0.005, cut.length + 0.03)])]
        ),
    ]
    lining = fabrics.plain(cloth.accent if rng.random() < 0.6 else cloth.base)
    pieces = [tailor.back_neck(cut, line, lining), *sleeves, body]
    button = tailor.either(rng, cloth.base * 0.45 + 0.08, cloth.accent, 0.35)
    if style == "quilted":
        collar = np.concatenate(
            [
                curve(
                    (-cut.neck - 0.03, 0.08), (-cut.neck, -0.08), (0, -0.13), (cut.neck, -0.08), (cut.neck + 0.03, 0.08)
                ),
                curve((cut.neck * 0.6, 0.12), (0, 0.15), (-cut.neck * 0.6, 0.12)),
            ]
        )
        zip_line = Piece(
            tailor.ribbon(curve((0.012, -0.02), (0.012, cut.length + 0.02)), 0.024), cloth.trim, tone=0.9, lift=0.2
        )
        return [*pieces, Piece(collar, cloth.main, lift=0.8), zip_line]
    if style == "cardigan":
        front = np.concatenate(
            [line[len(line) // 2 :][::-1], np.linspace((0.03, depth + 0.02), (0.03, cut.length + 0.03), 12)]
        )
        pieces += [
            Piece(tailor.ribbon(line[: len(line) // 2 + 1], 0.07), cloth.ribbed, tone=0.97, lift=0.4),
            Piece(tailor.ribbon(front, -0.0 + 0.07), cloth.ribbed, lift=0.5),
        ]
        pieces += tailor.buttons([0.0], np.arange(depth + 0.06, cut.length - 0.04, 0.16), 0.022, button)
        return pieces
    first, last = depth + 0.07, cut.length - (0.75 if long else 0.3)
    rows = np.linspace(first, max(last, first + 0.16), 4 if long else 2)
    columns = [0.0] if lap < 0.1 else [-lap + 0.04, lap - 0.04]
    if style == "tailored":
        pieces += [
            tailor.pocket(s * 0.31, rng.uniform(0.93, 0.95), 0.22, 0.075, cloth.main, flap=True) for s in (1, -1)
        ]
    else:
        for s in (1, -1):
            slant = np.array([(0.27, 1.22), (0.31, 1.21), (0.36, 1.45), (0.32, 1.46)]) * (s, 1)
            pieces.append(Piece(slant, cloth.main, tone=1.05, lift=0.7))
    pieces += tailor.buttons(columns, rows, 0.024, button)
    if style == "trench" or (long and rng.random() < 0.25):
        half = cut.waist + 0.008
        belt = np.concatenate(
            [curve((-half, 0.92), (0, 0.95), (half, 0.92)), curve((half, 1.01), (0, 1.04), (-half, 1.01))]
        )
        pieces.append(
            Piece(
                belt,
                cloth.main,
                np.array([(0.0, 0.0), (1.0, 0.0)]),
                (1, 1),
                "none",
                1.0,
                1.0,
                stitches=[belt[:17] + tailor.down(0.014), belt[17:] + tailor.down(-0.014)],
            )
        )
        buckle = np.array([(-0.06, 0.92), (0.06, 0.92), (0.06, 1.07), (-0.06, 1.07)])
        pieces.append(Piece(buckle, fabrics.plain(button)))
        pieces.append(Piece(buckle * (0.55, 1) * (1, 0.62) + (0, 0.378), cloth.main, tone=0.9, lift=0.0))
    n, wide = cut.neck, rng.uniform(0.16, 0.24)
    notch = rng.uniform(0.22, 0.3)
    for side in (-1, 1):
        flip = np.array([side, 1]) * (1 + rng.normal(0, 0.015))
        lapel = np.concatenate(
            [
                curve((lap * 0.3, depth + 0.02), (n * 0.62, depth * 0.45), (n * 0.98, 0.03)),
                [(n + 0.07, notch - 0.05), (n + wide, notch - 0.01)],
                curve(
                    (n + wide - 0.01, notch + 0.02),
                    ((n + wide) * 0.56, notch + 0.5 * (depth - notch)),
                    (lap * 0.3, depth + 0.02),
                ),
            ]
        )
        collar = np.concatenate(
            [
                curve((n * 0.9, 0.1), (n * 0.97, -0.05)),
                curve((n + 0.05, -0.03), (n + 0.1, 0.06), (n + wide * 0.85, notch - 0.07)),
                curve((n + 0.08, notch - 0.045), (n * 0.9, 0.1)),
            ]
        )
        slant = np.array([(0.0, 0.0), (-0.45, 1.0)]) * flip
        pieces += [
            Piece(
                lapel * flip,
                cloth.main,
                slant,
                (1, 1),
                "none",
                1.03,
                1.0,
                stitches=[lapel[-15:] * 0.96 * flip + lapel.mean(0) * 0.04 * flip],
            ),
            Piece(collar * flip, cloth.main, slant, (1, 1), "none", 1.0, 0.8),
        ]
    back = np.concatenate(
        [
            curve((-n - 0.03, -0.035), (0, -0.1), (n + 0.03, -0.035)),
            curve((n * 0.94, 0.03), (0, 0.04), (-n * 0.94, 0.03)),
        ]
    )
    pieces.insert(1, Piece(back, cloth.main, tone=0.8, lift=0.0))
    return pieces


GARMENTS: dict[str, Callable[[np.random.Generator], list[Piece]]] = {
    "top": top,
    "dress": dress,
    "trousers": trousers,
    "skirt": skirt,
    "coat": coat,
}
