"""The page: what it computes, what it refuses, and once in a real browser that reaches nobody else."""

import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from toy import weight_file

from dpconv_jax import UsageError, cli, demo
from dpconv_jax.data.decode import BadImageError

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIZE = (240, 320)  # H, W
STROKE = ((120, 100), (200, 140))  # from x, y to x, y, in pixels of the photo
HOST = "127.0.0.1"
QUIET = (  # of Chromium, which would look for updates and for its maker
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--no-first-run"),
)
FRAMES = "count => new Promise(done => { const step = () => count-- ? requestAnimationFrame(step) : done(); step() })"


class Flat:
    """A network that paints everything in one colour, with the interface of `model.Model`."""

    def output(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not mask.any():
            raise UsageError("the mask has no valid pixel")
        return np.broadcast_to(np.float32([1, 0, 0.2]), image.shape)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask[..., None], image, np.rint(self.output(image, mask) * 255).astype(np.uint8))


def noise(*, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def hole(*, size: tuple[int, int] = SIZE) -> np.ndarray:
    painted = np.zeros(size, bool)
    painted[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    return painted


@pytest.fixture
def run(tmp_path):
    """`demo.inpaint` with a flat network and a small limit."""

    def inpaint(file, strokes, mask=None, **options) -> demo.Result:
        options = {"colour": "white", "max_pixels": 10**6, **options}
        return demo.inpaint(Flat(), file and str(file), strokes, mask, folder=tmp_path, **options)

    return inpaint


@pytest.fixture
def file(tmp_path) -> pathlib.Path:
    path = tmp_path / "photo.png"
    Image.fromarray(noise()).save(path)
    return path


def pixels(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_only_the_hole_changes(run, file):
    result = run(file, hole())
    assert result.composite.name == "photo-inpainted.png" and result.summary.startswith("Hole ratio **6.25%** (")
    np.testing.assert_array_equal(pixels(result.composite)[~hole()], noise()[~hole()])
    assert (pixels(result.composite)[hole()] == (255, 0, 51)).all()
    assert (result.masked[hole()] == demo.GREY).all() and (result.masked[~hole()] == noise()[~hole()]).all()
    assert (result.output == (255, 0, 51)).all()


def test_a_large_photo_is_painted_on_a_small_one_and_keeps_its_size(run, tmp_path):
    size = (600, 2000)
    Image.fromarray(noise(size=size)).save(tmp_path / "large.png")
    shown = demo._reduced(noise(size=size))
    assert shown.shape == (307, 1024, 3)
    result = run(tmp_path / "large.png", hole(size=shown.shape[:2]), max_pixels=600 * 2000)
    changed = (pixels(result.composite) != noise(size=size)).any(axis=2)
    assert changed.shape == size and result.masked.shape == result.output.shape == shown.shape
    assert np.count_nonzero(changed ^ hole(size=size)) < 3000  # the border, two pixels wide


def test_a_turned_photo_comes_upright(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(tmp_path / "turned.jpg", exif=exif)
    assert run(tmp_path / "turned.jpg", hole(size=SIZE[::-1])).masked.shape == (*SIZE[::-1], 3)


@pytest.mark.parametrize("colour", ["white", "black"])
def test_a_mask_file_adds_to_what_was_painted(run, file, tmp_path, colour):
    more = np.flip(hole())
    Image.fromarray(more if colour == "white" else ~more).save(tmp_path / "mask.png")
    assert "12.50%" in run(file, hole(), tmp_path / "mask.png", colour=colour).summary
    assert "6.25%" in run(file, None, tmp_path / "mask.png", colour=colour).summary


def test_what_is_refused(run, file, tmp_path):
    Image.fromarray(hole(size=(30, 40))).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    for error, words, inputs in (
        (UsageError, "no photo", (None, None)),
        (UsageError, "no hole", (file, None)),
        (UsageError, "no hole", (file, ~np.ones(SIZE, bool))),
        (UsageError, "no valid pixel", (file, np.ones(SIZE, bool))),
        (UsageError, "40 x 30", (file, None, tmp_path / "small.png")),
        (BadImageError, "not a JPEG", (tmp_path / "text.png", hole())),
    ):
        with pytest.raises(error, match=words):
            run(*inputs)
    with pytest.raises(BadImageError, match="320 x 240 pixels, more than 10000"):
        run(file, hole(), max_pixels=10_000)


def test_the_editor_gives_back_what_it_was_given():
    canvas = demo._canvas(noise(), hole=hole())
    np.testing.assert_array_equal(demo._strokes(canvas), hole())
    assert demo._strokes(demo._canvas(noise())) is None and demo._strokes(None) is None


def test_mistakes_are_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as free:
        ports = [each.getsockname()[1] for each in (taken, free)]
        free.close()
        for arguments, words in (
            (["--model=x"], "--model"),
            (["--checkpoint=x", "--port=y"], "--port"),
            (["--checkpoint=x", "--port=99999"], "--port 99999: "),
            (["--checkpoint=x", f"--port={ports[0]}"], "in use"),
            (["--checkpoint=x", f"--port={ports[1]}"], 'pip install "dpconv-jax[demo]"'),
        ):
            assert cli.run(demo.main, arguments) == 2
            error = capsys.readouterr().err
            assert words in error and error.count("\n") == 1


# ---- the browser ----


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[subprocess.Popen, int]]:
    """The command, with the port it serves."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "dpconv_jax.demo",
        f"--checkpoint={weight_file(tmp_path / 'x.safetensors', size=64)}",
        f"--port={port}",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    try:
        line = process.stdout.readline()
        assert f"http://{HOST}:{port}/" in line, line
        yield process, port
    finally:
        process.kill()
        process.communicate()


def upload(page, file: pathlib.Path) -> tuple[float, float, float]:
    """Where the editor shows the photo, which is in its middle: left and top on the screen, and how much larger."""
    from playwright.sync_api import expect

    zoom = page.locator("#editor .zoom-number")
    empty = zoom.inner_text()
    page.locator("input[type=file]").first.set_input_files(file)
    expect(zoom).not_to_have_text(empty, timeout=60_000)
    page.evaluate(FRAMES, 60)  # it glides there, a step each frame
    scale = float(zoom.inner_text().removesuffix("%")) / 100
    box = page.locator("#editor .pixi-target canvas").bounding_box()
    left = box["x"] + (box["width"] - SIZE[1] * scale) / 2
    return left, box["y"] + (box["height"] - SIZE[0] * scale) / 2, scale


@pytest.mark.slow
def test_a_stroke_in_a_browser(server, file, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    process, port = server
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{HOST}:{port}")
        button = page.get_by_role("button", name="Inpaint")

        button.click()
        expect(page.locator(".toast-body")).to_contain_text("there is no photo yet", timeout=60_000)

        left, top, scale = upload(page, file)
        start, end = ((left + x * scale, top + y * scale) for x, y in STROKE)
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end, steps=10)
        page.mouse.up()
        button.click()
        expect(page.locator("#summary")).to_contain_text("Hole ratio", timeout=120_000)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the composite").click()
        download.value.save_as(tmp_path / "composite.png")
        browser.close()

    composite = pixels(tmp_path / "composite.png")
    assert composite.shape == noise().shape
    rows, columns = np.nonzero((composite != noise()).any(axis=2))
    reach = demo.BRUSH_SIZE + 2  # its radius, and less than a pixel where the mouse was
    (left, top), (right, bottom) = STROKE
    assert left - reach <= columns.min() < left and right < columns.max() <= right + reach
    assert top - reach <= rows.min() < top and bottom < rows.max() <= bottom + reach
    assert {urllib.parse.urlsplit(url).hostname for url in asked if not url.startswith(("blob:", "data:"))} == {HOST}

    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and not said, said
