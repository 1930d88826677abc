"""Published mask sets and archives: the right files and colour, and nothing from an archive but its masks."""

import io
import pathlib
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.errors import UsageError
from dpconv_jax.masks import archives


def png(ratio: float, *, hole: str = "black", seed: int = 0) -> bytes:
    """A mask of 40 x 40 whose uppermost rows are hole, turned by the seed."""
    holes = np.zeros((40, 40), bool)
    holes[: round(40 * ratio)] = True
    data = io.BytesIO()
    Image.fromarray(np.rot90(holes, seed) == (hole == "white")).save(data, "PNG")
    return data.getvalue()


def files(hole: str, *, split: str = "train", ratios: tuple[float, ...] = (0.1, 0.3, 0.5)) -> dict[str, bytes]:
    """As QD-IMD names them where holes are black, as NVIDIA does where they are white."""
    ending = f"_{split}" if hole == "black" else ""
    return {f"{index:05d}{ending}.png": png(ratio, hole=hole, seed=index) for index, ratio in enumerate(ratios)}


def write(folder: pathlib.Path, content: dict[str, bytes]) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def qd_imd(tmp_path: pathlib.Path) -> pathlib.Path:
    write(tmp_path / "qd_imd/train", files("black"))
    write(tmp_path / "qd_imd/test", files("black", split="test", ratios=(0.2, 0.4)))
    return tmp_path / "qd_imd"


def open_files(path: pathlib.Path, *, name: str = "", hole: str = "", split: str = "train") -> masks.MaskFiles:
    return masks.open_files(path, name=name, hole=hole, split=split)


@pytest.mark.parametrize("above", [0, 1])
def test_qd_imd_has_a_folder_for_each_split(above: int, qd_imd: pathlib.Path):
    root = [qd_imd, qd_imd.parent][above]
    train, validation = (open_files(root, name="qd_imd", split=split) for split in ("train", "validation"))
    assert (train.directory, validation.directory) == (qd_imd / "train", qd_imd / "test")
    assert (train.hole, len(train.paths), len(validation.paths)) == ("black", 3, 2)
    sizes = [len(train.in_bucket(bucket, size=(20, 20))) for bucket in (0, 1, 2)]
    assert sizes == [1, 1, 1]
    assert train.digest != validation.digest


def test_nvidia_serves_every_split(tmp_path: pathlib.Path):
    write(tmp_path / "irregular/testing", files("white"))
    train, validation = (
        open_files(tmp_path, name="nvidia_irregular", split=split) for split in ("train", "validation")
    )
    assert train.hole == "white" and train.digest == validation.digest
    assert [masks.hole_ratio(masks.read(path, hole=train.hole)) for path in train.paths] == [0.1, 0.3, 0.5]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda root: open_files(root, name="qd-imd"), "mask set 'qd-imd' is unknown; known: qd_imd, nvidia_irregular"),
        (
            lambda root: open_files(root, name="qd_imd", hole="white"),
            "mask.hole is 'white', but holes of qd_imd are black",
        ),
        (
            lambda root: open_files(root / "test", name="qd_imd"),
            "lacks train of qd_imd; it holds 00000_test.png, 00001",
        ),
        (lambda root: open_files(root / "no", name="qd_imd"), "lacks train of qd_imd; it holds it does not exist"),
        (
            lambda root: open_files(root, name="nvidia_irregular"),
            "is not nvidia_irregular: '00000_test.png' is not named",
        ),
        (lambda root: open_files(root), "hole colour '' of mask files must be"),
        (lambda root: masks.open_files("", name="", hole="black", split="train"), "mask.dir is empty"),
        (
            lambda root: open_files(
                write(root.parent / "n", files("white", ratios=(0.7, 0.9, 0.6))), name="nvidia_irregular"
            ),
            "with white holes, as in nvidia_irregular, the median mask would be 70% hole; the files look inverted",
        ),
    ],
)
def test_other_files_are_refused(change: Callable[[pathlib.Path], object], rule: str, qd_imd: pathlib.Path):
    with pytest.raises(UsageError, match=rule.replace("(", r"\(")) as caught:
        change(qd_imd)
    assert "\n" not in str(caught.value)


# ---- archives ----


def tar(path: pathlib.Path, members: list[tuple[tarfile.TarInfo, bytes]], *, mode: str) -> pathlib.Path:
    with tarfile.open(path, mode) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: pathlib.Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> pathlib.Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return path


def packed(path: pathlib.Path, content: dict[str, bytes]) -> pathlib.Path:
    """`content` as an archive of the kind that the path's name says."""
    if path.suffix == ".zip":
        return zipped(path, [(zipfile.ZipInfo(name), data) for name, data in content.items()])
    mode = "w:gz" if path.name.endswith("gz") else "w"
    return tar(path, [(tarfile.TarInfo(name), data) for name, data in content.items()], mode=mode)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz", "zip"])
def test_archives_are_unpacked_beside_themselves_once(
    kind: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    content = {f"qd_imd/train/{name}": data for name, data in files("black").items()}
    content |= {"qd_imd/readme.txt": b"hello", "qd_imd/train/._00000_train.png": b"a Mac was here"}
    path = packed(tmp_path / f"masks.{kind}", content)
    for said in (f"unpacking {path} to {tmp_path / 'masks'}\n", ""):
        assert len(open_files(path, name="qd_imd").paths) == 3
        assert capsys.readouterr().out == said
    unpacked = sorted(each.name for each in (tmp_path / "masks").rglob("*") if each.is_file())
    assert unpacked == ["00000_train.png", "00001_train.png", "00002_train.png"]


@pytest.mark.parametrize("above", ["", "mine/"])
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archived_set_of_ones_own_says_its_polarity(kind: str, above: str, tmp_path: pathlib.Path):
    content = {f"{above}masks/{name}": data for name, data in files("white").items()}
    content |= {f"{above}set.json": b'{"hole": "white"}', f"{above}histogram.png": png(0.9)}
    found = open_files(packed(tmp_path / f"set.{kind}", content))
    assert (found.hole, len(found.paths)) == ("white", 3)


def test_a_tar_may_name_its_own_folder(tmp_path: pathlib.Path):
    top = tarfile.TarInfo(".")
    top.type = tarfile.DIRTYPE
    path = tar(tmp_path / "masks.tar", [(top, b""), (tarfile.TarInfo("./a.png"), png(0.1))], mode="w")
    assert [each.name for each in open_files(path, hole="black").paths] == ["a.png"]


def link(name: str, to: str, kind: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return [(info, b"")]


def of(name: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(tarfile.TarInfo(name), png(0.1))]


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda at: tar(at / "m.tar", of("../out.png"), mode="w"), "'../out.png' leads out of the archive"),
        (lambda at: tar(at / "m.tar", of("a/../../out.png"), mode="w"), "leads out of the archive"),
        (lambda at: tar(at / "m.tar", of("/tmp/out.png"), mode="w"), "'/tmp/out.png' leads out of the archive"),
        (
            lambda at: tar(at / "m.tar", link("a.png", "/etc/passwd", tarfile.SYMTYPE), mode="w"),
            "'a.png' is neither a file",
        ),
        (lambda at: tar(at / "m.tar", link("a.png", "b.png", tarfile.LNKTYPE), mode="w"), "'a.png' is neither a file"),
        (lambda at: tar(at / "m.tar", link("a.png", "", tarfile.CHRTYPE), mode="w"), "'a.png' is neither a file"),
        (lambda at: packed(at / "m.zip", {"..\\out.png": png(0.1)}), "leads out of the archive"),
        (lambda at: packed(at / "m.zip", {"C:/out.png": png(0.1)}), "leads out of the archive"),
        (
            lambda at: zipped(at / "m.zip", [(symlink("a.png"), b"/etc/passwd")]),
            "'a.png' is neither a file nor a folder",
        ),
        (lambda at: packed(at / "m.zip", {"a.png": b"0" * 10_001}), "'a.png' makes it larger than any set of masks"),
        (lambda at: packed(at / "m.tar.gz", {"a.png": b"0" * 10_001}), "'a.png' makes it larger than any set of masks"),
        (
            lambda at: packed(at / "m.tgz", dict.fromkeys("abcdefg", b"") | {f"{i}.png": b"" for i in range(6)}),
            "6 files",
        ),
        (lambda at: packed(at / "m.tar", {f"{i}.png": b"0" * 9_000 for i in range(4)}), "36000 bytes"),
    ],
)
def test_archives_that_lead_elsewhere_or_never_end_are_refused(
    make: Callable[[pathlib.Path], pathlib.Path], rule: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    for name, most in {"MOST_FILES": 5, "MOST_BYTES": 10_000, "MOST_BYTES_IN_ALL": 30_000}.items():
        monkeypatch.setattr(archives, name, most)
    path = make(tmp_path)
    with pytest.raises(UsageError) as caught:
        open_files(path, hole="black")
    assert rule in str(caught.value) and "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == [path]  # nothing is left, inside or outside


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_damaged_archive_is_refused_whole(kind: str, tmp_path: pathlib.Path):
    path = packed(tmp_path / f"m.{kind}", files("white", ratios=(0.1,) * 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"cannot be unpacked|truncated|not as long"):
        open_files(path, hole="white")
    assert [*tmp_path.iterdir()] == [path]
