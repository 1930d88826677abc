"""Things taken out of garments, as shops do it: which photos of $CLOTHING/validation, and which hole each gets.

`MEASURED` is for figures: photos chosen by eye before any was filled, for variety and for a garment in the middle,
where a rectangle or a blob is drawn. `SHOWN` is for the eye: prints, tags and pockets, each hole placed by hand.
"""

import math
from typing import NamedTuple

import numpy as np

SEED = 25
SHARES = (0.03, 0.15)  # of a photo's pixels that a drawn hole has
LONGEST = 1.8  # times as long as wide, at most
AWAY = 0.08  # of a photo's sides between its middle and that of a drawn hole, at most
WAVES = (2, 3, 4, 5)  # of a blob's outline, around its middle


class Removal(NamedTuple):
    """A hole placed by hand."""

    what: str
    photo: str  # below $CLOTHING/validation, without .jpg
    form: str  # "rectangle" or "blob"
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 of what the form fills, in pixels

    def hole(self, shape: tuple[int, int]) -> np.ndarray:
        """Of a photo (H, W): bool (H, W)."""
        return depth(shape, self.box, self.form, np.random.default_rng([SEED, *self.box])) <= 1


def drawn(index: int, shape: tuple[int, int]) -> np.ndarray:
    """The hole of a photo (H, W) of `MEASURED`, bool (H, W): a rectangle for an even index, a blob for an odd one."""
    rng = np.random.default_rng([SEED, index])
    share = rng.uniform(*SHARES)
    longer = LONGEST ** rng.uniform(-0.5, 0.5)
    y, x = (side * (0.5 + rng.uniform(-AWAY, AWAY)) for side in shape)
    inside = depth(
        shape, (x - longer, y - 1 / longer, x + longer, y + 1 / longer), ("rectangle", "blob")[index % 2], rng
    )
    return inside <= np.quantile(inside, share)


def depth(
    shape: tuple[int, int], box: tuple[float, float, float, float], form: str, rng: np.random.Generator
) -> np.ndarray:
    """How far pixels are from the middle of a box, (H, W): 1 on the outline of the form that fills it."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x, y = (
        (2 * at + 1 - first - last) / (last - first) for at, first, last in ((columns, *box[::2]), (rows, *box[1::2]))
    )
    if form == "rectangle":
        return np.maximum(np.abs(x), np.abs(y))
    angle = np.arctan2(y, x)
    outline = 1 + sum(np.cos(wave * angle + rng.uniform(0, 2 * math.pi)) / (4 * wave) for wave in WAVES)
    return np.hypot(x, y) * outline.max() / outline


MEASURED = (
    "dress/24890459-3da7-4976-a837-f289e7af0d48",
    "dress/3eeaf330-2460-4d7f-844f-d7254d12e587",
    "dress/46e4c390-2154-4f6f-8c6f-e7805564d929",
    "dress/881c62dc-a47a-444d-86b7-93a27b431f51",
    "dress/be545b93-c60d-4be6-ae3a-64efd37b7fee",
    "dress/cbbe7c24-9d0a-4a7b-9680-af3c0f36b51f",
    "dress/f8aade97-3b1f-43d1-becb-9f12483fcc28",
    "dress/fdbc4a3c-4902-45ac-a10e-b641e3ebb0d4",
    "hat/8f809fea-1f7d-4695-be36-a061bd77c170",
    "longsleeve/11331826-e5c9-461d-acd2-b078022a9146",
    "longsleeve/2b12ad64-97e5-4500-ad2e-f74ea31eacbb",
    "longsleeve/4014f464-8bd5-4425-b934-735630cce566",
    "longsleeve/4c816a30-b848-4476-9ae2-a2d8d01e34a8",
    "longsleeve/98424108-fcd3-46a4-8a27-fcf4db664f4c",
    "longsleeve/9fda860e-3de6-4b36-80e7-63e794902370",
    "longsleeve/e6e4cfd1-7a1d-4acc-930f-4fb7769d65b6",
    "longsleeve/f2ed2a21-1f1d-4c4f-b814-ea534d7bc397",
    "outwear/0c7412e7-81eb-40b7-be64-ce9782103529",
    "outwear/2c1c3c2a-5b22-4133-9509-1877d6a106a0",
    "outwear/3108045a-9975-4ad8-b5ed-e0a065e5d397",
    "outwear/349cf35c-eaad-49af-b0c9-3c88b8d0afc1",
    "outwear/42518e91-c969-49f5-ac68-dfe394d7451e",
    "pants/7e4b6429-1db3-42d2-a114-18020dffded7",
    "pants/7eb1dd4c-e663-468d-b8ec-fb2d277ad499",
    "pants/511cbfa4-cc0c-416f-9e8b-c4e3fb16b9df",
    "shirt/0e7453e0-023c-4c34-b837-e6349846b112",
    "shirt/1d2e0956-07d7-41d8-9286-ea98d1d32dbd",
    "shirt/a85064d6-0f5d-4fce-9e3a-d1b5902c6098",
    "shirt/a9fe576c-a408-4b3f-80de-d9cb04d36360",
    "shirt/ee23222a-f46f-4044-abb2-0a5d1795da36",
    "shoes/32662cf1-4440-459c-b55c-0ba39b71f768",
    "shorts/163d946e-7638-4069-92e0-1b02be330271",
    "shorts/fa8d1daa-7813-4f98-a944-915418385ee9",
    "skirt/4c2b720f-6916-4edf-a732-847c55eec881",
    "skirt/7f160564-1b10-4cf0-bb61-5d9af037e898",
    "t-shirt/138183f7-178c-4d31-9069-60226d43fab4",
    "t-shirt/2ce576f8-cb93-43ee-933b-22d1c6d1678f",
    "t-shirt/76f8420a-bcea-4bb8-a049-befa05315470",
    "t-shirt/c5371dda-ab7d-4bfc-9b5b-275c579e3f94",
    "t-shirt/f8b7bdad-76ce-4efc-a26c-6a9d625d91fe",
)

SHOWN = (
    Removal("logo on red", "t-shirt/2ce576f8-cb93-43ee-933b-22d1c6d1678f", "rectangle", (103, 125, 262, 250)),
    Removal("logo on white", "t-shirt/164900f8-4d29-454b-97ba-5d7d22f5cfe2", "rectangle", (132, 152, 282, 248)),
    Removal("worn print", "t-shirt/dc4aa5ce-a18e-41d5-89fd-16424e3dda50", "rectangle", (128, 168, 272, 290)),
    Removal("print on black", "t-shirt/3972b4a1-41b6-4333-8f65-e6a776e94e18", "rectangle", (112, 190, 292, 312)),
    Removal("lines of text", "t-shirt/b84c9f00-8738-49a7-b804-bb8c685a12f7", "rectangle", (98, 150, 265, 252)),
    Removal("letters on a hoodie", "longsleeve/55b4f2d7-56b3-4463-86ea-6cb821a2c68e", "rectangle", (115, 70, 302, 178)),
    Removal("tall figure", "t-shirt/a9b25869-8ee5-4fbd-b3e8-e5067c5f73e7", "rectangle", (130, 138, 270, 348)),
    Removal("small logo", "t-shirt/2b84e88f-fa18-4af8-b6ef-e51abb38d760", "rectangle", (228, 180, 284, 224)),
    Removal("print over stripes", "t-shirt/8d5b6ef2-bc6f-4364-a278-580a5d91c7d7", "rectangle", (128, 150, 290, 255)),
    Removal("stripes", "longsleeve/f2ed2a21-1f1d-4c4f-b814-ea534d7bc397", "blob", (130, 200, 250, 330)),
    Removal("knitted stripes", "longsleeve/9fda860e-3de6-4b36-80e7-63e794902370", "rectangle", (140, 220, 270, 340)),
    Removal("thin stripes", "t-shirt/2952baa3-1c19-4629-aac5-48f9c123f4b1", "rectangle", (140, 220, 260, 320)),
    Removal("pinstripe", "shirt/a9fe576c-a408-4b3f-80de-d9cb04d36360", "blob", (110, 260, 190, 380)),
    Removal("plaid with a pocket", "shirt/a85064d6-0f5d-4fce-9e3a-d1b5902c6098", "rectangle", (230, 180, 330, 270)),
    Removal("small check", "shirt/6791b759-a30d-40bb-84f2-ff32ce939988", "blob", (130, 300, 260, 420)),
    Removal("check", "shirt/ee23222a-f46f-4044-abb2-0a5d1795da36", "rectangle", (110, 250, 190, 340)),
    Removal("gingham on the bias", "skirt/2ac96388-4353-44b6-a174-de2f2523afd1", "blob", (60, 190, 180, 300)),
    Removal("ribs", "longsleeve/4c816a30-b848-4476-9ae2-a2d8d01e34a8", "blob", (120, 200, 240, 330)),
    Removal(
        "pocket on a melange knit", "longsleeve/e6e4cfd1-7a1d-4acc-930f-4fb7769d65b6", "rectangle", (208, 196, 315, 318)
    ),
    Removal("melange knit", "dress/b5c9449f-f1fe-4b81-a247-329145b6c277", "rectangle", (110, 230, 240, 350)),
    Removal("fly of jeans", "pants/7e4b6429-1db3-42d2-a114-18020dffded7", "blob", (120, 130, 220, 240)),
    Removal("pocket of jeans", "shorts/73d0010c-e5f1-49aa-bc8d-222002cdb5b6", "rectangle", (50, 170, 140, 270)),
    Removal("embroidery on a quilt", "outwear/2c1c3c2a-5b22-4133-9509-1877d6a106a0", "rectangle", (120, 165, 195, 300)),
    Removal("zip of a puffer", "outwear/3108045a-9975-4ad8-b5ed-e0a065e5d397", "rectangle", (150, 240, 260, 350)),
    Removal("hanger before a wall", "dress/f8aade97-3b1f-43d1-becb-9f12483fcc28", "rectangle", (150, 0, 235, 52)),
    Removal("tag on a blouse", "longsleeve/461a97c1-1738-46f8-9318-efff65d642a0", "rectangle", (176, 106, 226, 164)),
    Removal("dense flowers", "dress/881c62dc-a47a-444d-86b7-93a27b431f51", "rectangle", (140, 220, 260, 320)),
    Removal("sparse flowers", "dress/be545b93-c60d-4be6-ae3a-64efd37b7fee", "blob", (130, 240, 260, 360)),
    Removal("circles", "dress/46e4c390-2154-4f6f-8c6f-e7805564d929", "rectangle", (100, 250, 230, 400)),
    Removal("sleeve over tiles", "longsleeve/3723b671-6846-4d22-af73-fc655eb52093", "rectangle", (50, 255, 125, 345)),
)
