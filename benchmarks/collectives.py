"""What the devices tell each other in one run of a compiled program, read in its optimised HLO."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}

# `%name = f32[64]{0} all-reduce(`, `%name = (f32[3,3]{1,0:T(8,128)}, bf16[]) all-reduce-start(`. What ends in -done
# repeats its start.
_LINE = re.compile(rf"= (?P<shapes>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_SHAPE = re.compile(r"\b(?P<type>[a-z]+[0-9]*)\[(?P<sides>[0-9,]*)\]")


class Collective(NamedTuple):
    """One instruction; `types` has the bytes of each element type that it carries."""

    kind: str
    types: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes that a device puts in."""
        return sum(self.types.values())


def collectives(hlo: str) -> list[Collective]:
    """Of the HLO text of a compiled program, in its order."""
    found = []
    for line in hlo.splitlines():
        if not (match := _LINE.search(line)):
            continue
        types: dict[str, int] = {}
        for shape in _SHAPE.finditer(match["shapes"]):
            sides = [int(side) for side in shape["sides"].split(",") if side]
            types[shape["type"]] = types.get(shape["type"], 0) + math.prod(sides) * BYTES[shape["type"]]
        if match["start"] and match["kind"] != "all-reduce":  # their result holds the operand beside the outcome
            types = {name: size // 2 for name, size in types.items()}
        found.append(Collective(match["kind"], types))
    return found
