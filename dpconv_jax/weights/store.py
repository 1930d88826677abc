"""The weight files that others publish: where each comes from, how it is known, and where it is kept.

They are kept in $DPCONV_JAX_WEIGHTS, or in dpconv_jax/weights of $XDG_CACHE_HOME or ~/.cache. Beside each lies a
record, `FILE.json`, with the sha256 that it had when it was fetched. Nothing is downloaded but by `fetch`.
"""

import dataclasses
import hashlib
import http.client
import io
import json
import os
import pathlib
import urllib.request
import zipfile
from collections.abc import Callable

from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.models.inception import Inception
from dpconv_jax.models.lpips import LPIPS
from dpconv_jax.models.vgg16 import VGG16
from dpconv_jax.progress import Counter
from dpconv_jax.weights import inception, lpips
from dpconv_jax.weights.tensor_file import sha256 as sha256  # of any weight file, for whoever reports it

MEBIBYTE = 2**20
TIMEOUT = 60  # seconds without an answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """A published file: its name in the folder, what it is, its source, and the hash that the source states."""

    file: str
    what: str
    url: str
    licence: str
    algorithm: str  # of the hash, as hashlib calls it
    digest: str
    member: str = ""  # of the archive at `url`, where the file is not published alone


KNOWN = {
    "vgg16": Known(
        file="vgg16-397923af.pth",
        what="VGG-16 of torchvision: style loss, trunk of LPIPS",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        licence="BSD-3-Clause",
        algorithm="sha256",
        digest="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "vgg16_keras": Known(
        file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        what="VGG-16 of Oxford, as Keras has it: style loss, trunk of lpips_oxford",
        url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        licence="CC-BY-4.0",
        algorithm="md5",
        digest="6d6bbae143d832006294945121d1f1fc",
    ),
    "inception": Known(
        file="pt_inception-2015-12-05-6726825d.pth",
        what="Inception-v3 of 2015-12-05, TensorFlow's: FID, KID, Inception score",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        licence="Apache-2.0",
        algorithm="sha256",
        digest=inception.SHA256,
    ),
    "lpips": Known(
        file="lpips-vgg-v0.1.pth",
        what="heads of LPIPS 0.1 on VGG-16, from the authors' package",
        url="https://files.pythonhosted.org/packages/9b/13/1df50c7925d9d2746702719f40e864f51ed66f307b20ad32392f1ad2bb87/"
        "lpips-0.1.4-py3-none-any.whl",
        licence="BSD-2-Clause",
        algorithm="sha256",
        digest="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",  # stated in the wheel's RECORD
        member="lpips/weights/v0.1/vgg.pth",
    ),
}


def folder() -> pathlib.Path:
    """Where the files are kept; it need not exist."""
    if os.environ.get("DPCONV_JAX_WEIGHTS"):
        return pathlib.Path(os.environ["DPCONV_JAX_WEIGHTS"])
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "dpconv_jax" / "weights"


def locate(name: str, *, path: str | pathlib.Path | None = None) -> pathlib.Path:
    """`path` where it is given, else the kept file, which must be as it was published and fetched.

    Raises UsageError where `name` is unknown, or the file is absent or damaged. Never downloads.
    """
    known(name)
    if path is not None:
        if not pathlib.Path(path).is_file():
            raise UsageError(f"weights {path}: no such file")
        return pathlib.Path(path)
    fault = damage(name)
    if fault:
        raise UsageError(fault)
    return folder() / known(name).file


def load_inception(path: str | pathlib.Path | None = None) -> Inception:
    """The network at `path`, else the kept one; only the published file gives an `official` one. Raises UsageError."""
    return inception.load(locate("inception", path=path))


def load_lpips(path: str | pathlib.Path | None = None, *, trunk: VGG16) -> LPIPS:
    """The heads at `path`, else the kept ones, on `trunk`, which must reach conv5_3. Raises UsageError."""
    return lpips.load(locate("lpips", path=path), trunk=trunk)


def fetch(name: str, *, path: str | pathlib.Path | None = None) -> pathlib.Path:
    """Puts the file into the folder: from `path` where it is given; else it is there already, or is downloaded.

    What does not have the published hash, and that of the record where there is one, is not kept. Raises UsageError
    where it does not, or cannot be had or written.
    """
    this = known(name)
    kept, source = folder() / this.file, this.url if path is None else str(path)
    if path is None and kept.is_file() and not damage(name):
        return kept
    content = _download(this) if path is None else _read(pathlib.Path(path))
    fault = _fault(name, lambda algorithm: hashlib.new(algorithm, content).hexdigest())
    if fault:
        raise UsageError(f"{source}: {fault}; it was not kept")
    record = {"name": name, "source": source, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, content)
        write_whole(_record(this), json.dumps(record, indent=1).encode())
    except OSError as error:
        raise UsageError(f"{kept} cannot be written: {error.strerror}") from error
    return kept


def damage(name: str) -> str | None:
    """What is wrong with the kept file, in one line; None where nothing is. Raises UsageError where it is absent."""
    kept = folder() / known(name).file
    command = f"python -m dpconv_jax.weights fetch {name}"
    if not kept.is_file():
        raise UsageError(f"no weights {name!r} in {kept.parent}; run: {command}")

    def digest(algorithm: str) -> str:
        try:
            with kept.open("rb") as stream:
                return hashlib.file_digest(stream, algorithm).hexdigest()
        except OSError as error:
            raise UsageError(f"{kept} cannot be read: {error.strerror}") from error

    fault = _fault(name, digest)
    return f"{kept} is damaged: {fault}; run: {command}" if fault else None


def recorded(name: str) -> str | None:
    """The sha256 that the kept file had when it was fetched; None without a record. UsageError for a damaged one."""
    path = _record(known(name))
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no record of a fetched file; delete it") from error


def known(name: str) -> Known:
    """Raises UsageError for another name."""
    if name not in KNOWN:
        raise UsageError(f"unknown weights {name!r}; known: {', '.join(KNOWN)}")
    return KNOWN[name]


def _record(this: Known) -> pathlib.Path:
    return folder() / f"{this.file}.json"


def _fault(name: str, digest: Callable[[str], str]) -> str | None:
    """The hashes that the file of that name must have, against those that `digest` finds."""
    this = known(name)
    for whose, algorithm, expected in (
        ("published", this.algorithm, this.digest),
        ("recorded", "sha256", recorded(name)),
    ):
        found = digest(algorithm) if expected else None
        if found != expected:
            return f"its {algorithm} is {found}, not the {whose} {expected}"
    return None


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _download(this: Known) -> bytes:
    """The whole file, or UsageError."""
    content = bytearray()
    try:
        request = urllib.request.Request(this.url, headers={"User-Agent": "dpconv_jax"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = int(response.headers["Content-Length"])
            with Counter(total=-(-length // MEBIBYTE), unit="MiB") as counter:
                while piece := response.read(MEBIBYTE):
                    content += piece
                    counter.advance()
        if len(content) != length:
            raise http.client.HTTPException(f"it ended after {len(content)} of {length} bytes")
        if not this.member:
            return bytes(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(this.member)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException, zipfile.BadZipFile) as error:
        raise UsageError(f"{this.url} cannot be downloaded: {error}") from error
