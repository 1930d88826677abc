"""A page in the browser: choose a photo, paint over what is to go, look at what the network puts there.

The page is served by this machine and asks no other for anything. Photos stay in a temporary folder until it stops.
"""

import contextlib
import html
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from dpconv_jax import cli, masks
from dpconv_jax.data.decode import BadImageError
from dpconv_jax.data.synthetic import painting
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import holes, photo

if TYPE_CHECKING:
    import gradio

    from dpconv_jax.inpainting.model import Model

MAX_PIXELS = 25_000_000  # of a photo or a mask
SIDE = 1024  # of what is shown and painted on: larger canvases are slow, and end at what a GPU holds
BRUSH = "rgba(255, 45, 120, 0.6)"  # not a colour of cloth, and what is below still shows
BRUSH_SIZE = 20  # its radius at first, in pixels of what is painted on
GREY = 128  # holes of the masked photo
EXAMPLES = ((16, 0), (10, 0), (22, 1), (13, 1))  # (seed of a garment, bucket of its hole)
EXAMPLE_SIDE = 512

TITLE = "Inpainting of clothing images"
USAGE = "Choose a photo or an example, paint over what is to go, and press **Inpaint**. Only the painted part changes."
CSS = """
.gradio-container {max-width: 1280px !important; width: 100%; margin: 0 auto}
#editor [aria-label="Clear canvas"] {display: none}  /* it would take the photo along; undo and eraser remain */
"""


class Result(NamedTuple):
    """What the page shows of one photo."""

    masked: np.ndarray  # uint8 (h, w, 3), no side above SIDE, grey in the hole
    output: np.ndarray  # uint8 (h, w, 3), the network's raw output for the photo at this size
    composite: pathlib.Path  # a PNG of the photo's own size in which only the hole changed
    summary: str  # one line


def inpaint(
    model: "Model",
    file: str | None,
    strokes: np.ndarray | None,
    mask: str | None,
    *,
    colour: str,
    folder: str | os.PathLike[str],
    max_pixels: int = MAX_PIXELS,
) -> Result:
    """Fills what was painted on a photo, and what its mask file says.

    file: the photo, in a format of `photo.read`.
    strokes: bool (h, w), True = hole, painted on the photo at any size; None: nothing was painted.
    mask: a picture of the photo's size whose holes have the `colour` "white" or "black"; None: no file.
    folder: where the composite is written.
    Raises UsageError where there is no photo, no hole or no valid pixel, or where the mask has another size;
    BadImageError for a file that cannot be read or has more than `max_pixels`.
    """
    if file is None:
        raise UsageError("there is no photo yet: choose one, or an example")
    opened = photo.read(file, max_pixels=max_pixels)
    rgb, notes = opened.rgb, opened.notes
    hole = np.zeros(rgb.shape[:2], bool)
    if strokes is not None:
        hole |= _enlarged(strokes, hole.shape)
    if mask is not None:
        more, said = holes.read(mask, size=hole.shape, colour=colour, max_pixels=max_pixels)
        hole, notes = hole | more, notes + said
    ratio = masks.hole_ratio(~hole)
    if not ratio:
        raise UsageError("there is no hole yet: paint over what is to go, or choose a mask file")
    filled = model(rgb, ~hole)
    small, small_hole = _reduced(rgb), _reduced(hole)
    output = model.output(small, ~small_hole)

    composite = pathlib.Path(folder) / f"{pathlib.Path(file).stem}-inpainted.png"
    notes += photo.write(opened, composite, filled / np.float32(255), hole.astype(np.float32))
    return Result(
        masked=np.where(small_hole[..., None], np.uint8(GREY), small),
        output=np.rint(output * 255).astype(np.uint8),
        composite=composite,
        summary="; ".join((_summary(hole.shape, ratio), *notes)),
    )


def build(model: "Model", *, max_pixels: int = MAX_PIXELS) -> "gradio.Blocks":
    """The page as a Gradio app, for a notebook: `build(dpconv_jax.load(path)).launch()`.

    max_pixels: larger photos and masks are refused from their headers, before they are decoded.
    Raises UsageError where Gradio is not installed.
    """
    gr = _gradio()

    def said(work: Callable) -> Callable:
        """Mistakes become messages on the page, which takes them for HTML and does not tell where files lie."""

        def wrapped(*inputs: Any) -> Any:
            try:
                return work(*inputs)
            except (BadImageError, UsageError) as error:
                message = str(error)
                for path in (each for each in inputs if isinstance(each, str)):
                    message = message.replace(path, os.path.basename(path))
                raise gr.Error(html.escape(message, quote=False), print_exception=False) from error

        return wrapped

    def show(file: str | None) -> dict[str, Any] | None:
        return _canvas(_reduced(photo.read(file, max_pixels=max_pixels).rgb)) if file else None

    def pick(index: int) -> tuple[str, dict[str, Any]]:
        return examples[index].file, _canvas(examples[index].image, hole=examples[index].hole)

    def press(file: str | None, canvas: dict[str, Any] | None, mask: str | None, colour: str) -> tuple[Any, ...]:
        result = inpaint(
            model, file, _strokes(canvas), mask, colour=colour, max_pixels=max_pixels, folder=_new_folder()
        )
        download = gr.DownloadButton(value=result.composite, interactive=True)
        return result.masked, result.output, str(result.composite), result.summary, download

    examples = _examples(_new_folder())
    shown: dict[str, Any] = {"format": "png", "buttons": ["download", "fullscreen"], "interactive": False}
    private: dict[str, Any] = {"api_visibility": "private"}
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\n{USAGE}")
        with gr.Row():
            with gr.Column():
                file = gr.File(label="Photo", file_types=[*photo.SUFFIXES], height=140)
            with gr.Column():
                gallery = gr.Dataset(
                    label="Examples",
                    components=["image"],
                    samples=[[example.file] for example in examples],
                    type="index",
                )
        with gr.Row():
            with gr.Column():
                editor = gr.ImageEditor(
                    label="Paint the hole",
                    sources=(),  # the photo is opened here and not by the browser, which may change its colours
                    transforms=(),
                    layers=False,
                    brush=gr.Brush(default_size=BRUSH_SIZE, colors=[BRUSH], color_mode="fixed"),
                    format="png",
                    canvas_size=(SIDE // 2, SIDE // 2),
                    placeholder=" ",  # instead of an advice to choose the brush, which is chosen already
                    height=430,
                    elem_id="editor",
                )
                button = gr.Button("Inpaint", variant="primary")
                with gr.Accordion("Or upload a mask", open=False):
                    mask = gr.File(label="Mask of the photo's size", file_types=[*photo.SUFFIXES], height=140)
                    colour = gr.Radio(["white", "black"], value=holes.COLOUR, label="Colour of the hole")
            with gr.Column():
                composite = gr.Image(label="Composite", height=430, **shown)
                download = gr.DownloadButton("Download the composite", interactive=False)
                summary = gr.Markdown(elem_id="summary")
        with gr.Row():
            masked = gr.Image(label="Masked", height=320, **shown)
            output = gr.Image(label="Raw output for the whole photo", height=320, **shown)

        file.upload(said(show), file, editor, **private)
        file.clear(None, None, editor, js="() => null", **private)
        gallery.click(pick, gallery, [file, editor], **private)
        button.click(
            said(press), [file, editor, mask, colour], [masked, output, composite, summary, download], **private
        )
    return page


def _summary(size: tuple[int, int], ratio: float) -> str:
    low, high = masks.BUCKETS[masks.bucket_of(ratio)]
    bucket = f"the paper's bucket {low:.0%}–{high:.0%}"  # noqa: RUF001
    return f"Hole ratio **{ratio:.2%}** ({bucket}), {size[1]} × {size[0]} pixels"  # noqa: RUF001


# ---- sizes ----


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), or bool (H, W) where a hole stays a hole, with no side above SIDE."""
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if pixels.dtype == bool:
        return np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX)) > 0
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _enlarged(hole: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool, at the photo's size (H, W), with smooth edges."""
    if hole.shape == size:
        return hole
    grey = Image.fromarray(hole).convert("L").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128


# ---- the editor ----


def _canvas(image: np.ndarray, *, hole: np.ndarray | None = None) -> dict[str, Any]:
    """The editor's value: an image, and a layer that is opaque where there is a hole."""
    return {"background": image, "layers": [] if hole is None else [_layer(hole)], "composite": None}


def _layer(hole: np.ndarray) -> np.ndarray:
    *colour, alpha = (float(number) for number in BRUSH.removeprefix("rgba(").removesuffix(")").split(","))
    return np.where(hole[..., None], np.array([*colour, alpha * 255]), 0).astype(np.uint8)


def _strokes(canvas: dict[str, Any] | None) -> np.ndarray | None:
    """What was painted on the editor: bool (h, w), True = hole; None for nothing."""
    layers = [layer[..., 3] > 0 for layer in (canvas or {}).get("layers", ())]
    return np.logical_or.reduce(layers) if layers else None


# ---- files ----


class _Example(NamedTuple):
    file: str
    image: np.ndarray
    hole: np.ndarray


def _examples(folder: str) -> list[_Example]:
    found = []
    for seed, bucket in EXAMPLES:
        rng = np.random.default_rng([seed, 7])
        image, region, category = painting.draw(rng, size=EXAMPLE_SIDE)
        mask = masks.draw(rng, region.shape, preset="qd_imd", bucket=bucket, region=region)
        file = os.path.join(folder, f"{category}.png")
        Image.fromarray(image).save(file)
        found.append(_Example(file, image, mask[..., 0] == 0))
    return found


def _new_folder() -> str:
    return tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR"))


# ---- the command ----


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while it is imported
    try:
        import gradio
    except ImportError as error:
        raise UsageError('the page needs Gradio: pip install "dpconv-jax[demo]"') from error
    return gradio


def main(arguments: list[str] | None = None) -> int:
    """The exit code, once the page was stopped by Ctrl-C or SIGTERM. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.demo", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", type=pathlib.Path, metavar="WORKDIR|FILE", help="the network; default: that of this package")
    add("--host", default="127.0.0.1", help="whom to serve: %(default)s is this machine alone, 0.0.0.0 its network")
    add("--port", default=7860, type=int, help="default %(default)s")
    add("--max_pixels", default=MAX_PIXELS, type=int, help="larger photos are refused; default %(default)s")
    options = parser.parse_args(arguments)
    try:  # now, in a line, and not after all that is slow to load
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"--host {options.host} --port {options.port}: {error}") from error
    gr = _gradio()

    from dpconv_jax.inpainting import model  # after the flags: a mistake in them should not wait for jax

    cli.keep_compiled()
    network = model.of_command(options.checkpoint)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Gradio itself opens what the browser sends; Pillow refuses twice this.
    Image.MAX_IMAGE_PIXELS = options.max_pixels
    with tempfile.TemporaryDirectory(prefix="dpconv_jax-") as folder, contextlib.suppress(KeyboardInterrupt):
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build(network, max_pixels=options.max_pixels)
        _, url, _ = page.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=4 * options.max_pixels,  # bytes: no picture is larger than its RGBA
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
            css=CSS,
            quiet=True,
            prevent_thread_lock=True,
        )
        print(f"the page is at {url}, until Ctrl-C", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
