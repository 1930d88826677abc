"""The removals of the benchmarks: holes of the size that is said, where they are said to be."""

import numpy as np
import pytest

from benchmarks import removals

PHOTO = (512, 384)  # height and width of most of them


def test_there_are_forty_to_measure_and_thirty_to_show():
    assert len({*removals.MEASURED}) == len(removals.MEASURED) == 40
    assert len({removal.photo for removal in removals.SHOWN}) == len(removals.SHOWN) == 30


@pytest.mark.parametrize("index", range(len(removals.MEASURED)))
def test_a_drawn_hole_has_its_share_in_the_middle_and_stays_the_same(index):
    hole = removals.drawn(index, PHOTO)
    least, most = removals.SHARES
    assert least - 0.005 <= hole.mean() <= most + 0.005  # whole rows and columns of a rectangle
    assert not (hole[[0, -1]].any() or hole[:, [0, -1]].any())
    middle = np.argwhere(hole).mean(axis=0) / PHOTO
    assert np.all(np.abs(middle - 0.5) < removals.AWAY + 0.05)  # a blob leans to a side
    np.testing.assert_array_equal(hole, removals.drawn(index, PHOTO))


@pytest.mark.parametrize("removal", removals.SHOWN, ids=lambda removal: removal.what)
def test_a_hole_placed_by_hand_fills_its_box(removal):
    x0, y0, x1, y1 = removal.box
    hole = removal.hole((y1 + 20, x1 + 20))
    rows, columns = np.nonzero(hole)
    assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1
    part = hole[y0:y1, x0:x1].mean()
    assert part == 1 if removal.form == "rectangle" else 0.4 < part < 0.9
