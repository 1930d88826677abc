"""Published weight files: fetched from a server of this test's own, kept, checked, damaged, converted."""

import dataclasses
import hashlib
import http.server
import io
import json
import pathlib
import threading
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from pickled import torch_pickles

from dpconv_jax import UsageError, cli
from dpconv_jax.models import lpips as model
from dpconv_jax.models import vgg16
from dpconv_jax.weights import __main__ as command
from dpconv_jax.weights import convert, inception, lpips, store
from dpconv_jax.weights import vgg16 as vgg16_file


class Server(http.server.ThreadingHTTPServer):
    """Gives `files` by path; of those in `cut`, half of what it announces."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in self.server.cut else content)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


CONTENT = b"weights" * 100_000


@pytest.fixture
def known(server, monkeypatch, tmp_path) -> store.Known:
    """`vgg16` is CONTENT, from the server, into a folder that does not exist yet."""
    monkeypatch.setenv("DPCONV_JAX_WEIGHTS", str(tmp_path / "kept" / "here"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server.files["/vgg16.pth"] = CONTENT
    this = dataclasses.replace(
        store.KNOWN["vgg16"],
        url=f"http://127.0.0.1:{server.server_port}/vgg16.pth",
        digest=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setitem(store.KNOWN, "vgg16", this)
    return this


def run(*arguments: str | pathlib.Path) -> int:
    return cli.run(command.main, [str(each) for each in arguments])


def files() -> list[str]:
    return sorted(path.name for path in store.folder().rglob("*"))


def error(capsys) -> str:
    """The one line of a refusal."""
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def test_a_fetched_file_is_kept_recorded_and_not_asked_for_again(known, server, capsys):
    assert run("fetch", "vgg16") == 0
    kept = store.locate("vgg16")
    assert kept.read_bytes() == CONTENT
    assert files() == [known.file, f"{known.file}.json"]
    assert json.loads((store.folder() / f"{known.file}.json").read_text()) == {
        "name": "vgg16",
        "source": known.url,
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert store.sha256(kept) == store.recorded("vgg16") == known.digest
    assert run("fetch", "vgg16") == 0
    assert server.asked == ["/vgg16.pth"]
    assert capsys.readouterr().out == f"vgg16: {kept}\n" * 2


def test_a_copy_comes_before_the_source(known, server, tmp_path, capsys):
    (tmp_path / "copy").write_bytes(CONTENT)
    assert run("fetch", "vgg16", "--path", tmp_path / "copy") == 0
    assert store.locate("vgg16").read_bytes() == CONTENT
    (tmp_path / "copy").write_bytes(CONTENT + b".")
    assert run("fetch", "vgg16", "--path", tmp_path / "copy") == 2
    assert f"not the published {known.digest}; it was not kept" in error(capsys)
    assert run("fetch", "vgg16", "--path", tmp_path / "absent") == 2
    assert "No such file" in error(capsys)
    assert store.locate("vgg16").read_bytes() == CONTENT
    assert server.asked == []


def test_a_member_of_an_archive(known, server, monkeypatch):
    """As the heads of LPIPS come, in the package's wheel; the hash is the member's."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("lpips/vgg.pth", CONTENT)
    server.files["/lpips.whl"] = stream.getvalue()
    this = dataclasses.replace(known, url=known.url.replace("vgg16.pth", "lpips.whl"), member="lpips/vgg.pth")
    monkeypatch.setitem(store.KNOWN, "vgg16", this)
    assert store.fetch("vgg16").read_bytes() == CONTENT
    monkeypatch.setitem(store.KNOWN, "vgg16", dataclasses.replace(this, file="other", member="absent"))
    with pytest.raises(UsageError, match=r"cannot be downloaded: .*absent"):
        store.fetch("vgg16")


@pytest.mark.parametrize("fault", ["cut", "other", "absent", "offline"])
def test_what_is_not_whole_is_not_kept(known, server, monkeypatch, capsys, fault):
    expected = {
        "cut": f"it ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes",
        "other": "not the published",
        "absent": "404",
        "offline": "cannot be downloaded",
    }
    if fault == "cut":
        server.cut.add("/vgg16.pth")
    elif fault == "other":
        server.files["/vgg16.pth"] = CONTENT[::-1]
    elif fault == "absent":
        del server.files["/vgg16.pth"]
    else:
        monkeypatch.setitem(store.KNOWN, "vgg16", dataclasses.replace(known, url="http://127.0.0.1:1/vgg16.pth"))
    assert run("fetch", "vgg16") == 2
    assert expected[fault] in error(capsys)
    assert files() == []


def test_nothing_is_downloaded_or_replaced_unasked(known, server, tmp_path):
    with pytest.raises(UsageError, match=r"no weights 'vgg16' in .*; run: python -m dpconv_jax\.weights fetch vgg16$"):
        store.locate("vgg16")
    with pytest.raises(UsageError, match="no weights 'inception'"):
        store.load_inception()
    with pytest.raises(UsageError, match="no such file"):
        store.locate("vgg16", path=tmp_path / "absent")
    (tmp_path / "mine").write_bytes(b"mine")
    assert store.locate("vgg16", path=tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(UsageError, match="unknown weights 'vgg19'; known: vgg16, vgg16_keras, inception, lpips"):
        store.locate("vgg19", path=tmp_path / "mine")
    assert server.asked == []


def test_a_damaged_file_is_noticed_named_and_fetched_again(known, server, capsys):
    kept = store.fetch("vgg16")
    assert run("verify") == 0
    assert capsys.readouterr().out == "vgg16: whole\n"
    kept.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UsageError, match=r"is damaged: its sha256 is \w+, not the published"):
        store.locate("vgg16")
    assert run("verify") == 2
    assert known.file in error(capsys)
    assert run("verify", "vgg16") == 2
    assert known.file in error(capsys)
    assert run("fetch", "vgg16") == 0
    assert store.locate("vgg16").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_the_first_fetch_is_held_to(known, server, monkeypatch):
    """Where the published hash is weaker than the recorded one, and what it is taken from has changed."""
    weak = dataclasses.replace(known, algorithm="md5", digest=hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setitem(store.KNOWN, "vgg16", weak)
    record = store.fetch("vgg16").with_name(f"{known.file}.json")
    monkeypatch.setitem(store.KNOWN, "vgg16", dataclasses.replace(weak, digest=hashlib.md5(b"forged").hexdigest()))
    server.files["/vgg16.pth"] = b"forged"
    with pytest.raises(UsageError, match=r"its sha256 is \w+, not the recorded \w+; it was not kept"):
        store.fetch("vgg16")
    record.write_text("{}")
    with pytest.raises(UsageError, match=r"json is no record of a fetched file; delete it"):
        store.locate("vgg16")


def test_verify_without_files(known, capsys):
    assert run("verify") == 0
    assert "holds none" in capsys.readouterr().out
    assert run("verify", "vgg16") == 2
    assert "no weights 'vgg16'" in error(capsys)


def test_list(known, capsys):
    store.fetch("vgg16")
    assert run("list") == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == 1 + len(store.KNOWN)
    for block, (name, this) in zip(blocks[1:], store.KNOWN.items(), strict=True):
        assert all(text in block for text in (f"{name}: ", this.what, this.url, this.licence, this.digest))
        assert (f"  here, sha256 {known.digest}" in block) == (name == "vgg16")
        assert ("  not here" in block) == (name != "vgg16")


def test_the_folder(monkeypatch, tmp_path):
    for variable in ("DPCONV_JAX_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".cache" / "dpconv_jax" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store.folder() == tmp_path / "cache" / "dpconv_jax" / "weights"
    monkeypatch.setenv("DPCONV_JAX_WEIGHTS", str(tmp_path))
    assert store.folder() == tmp_path


def test_a_folder_that_cannot_be_written(known, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DPCONV_JAX_WEIGHTS", str(tmp_path / "file" / "below"))
    assert run("fetch", "vgg16") == 2
    assert "cannot be written: Not a directory" in error(capsys)


@pytest.mark.parametrize("this", store.KNOWN.values(), ids=store.KNOWN)
def test_published_facts(this):
    assert len(this.digest) == 2 * hashlib.new(this.algorithm).digest_size
    stem = this.file.removesuffix(".pth")
    assert this.algorithm == "md5" or this.member or stem.endswith(f"-{this.digest[:8]}")  # PyTorch's custom
    assert this.url.startswith("https://") and (this.member or this.url.endswith(f"/{this.file}"))


# ---- the networks in such files ----


@pytest.fixture(scope="module")
def heads() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random(shape).astype(np.float32) for name, shape in lpips.SHAPES.items()}


@pytest.fixture(scope="module")
def torchvision() -> dict[str, np.ndarray]:
    """VGG-16 by torchvision's names, with a layer of its classifier."""
    rng, found = np.random.default_rng(0), {"classifier.6.bias": np.zeros(1000, np.float32)}
    for name, inputs, outputs in (layer for block in vgg16.BLOCKS for layer in block):
        stem = f"features.{vgg16_file.TORCHVISION_INDEX[name]}"
        found[f"{stem}.weight"] = rng.random((outputs, inputs, 3, 3), np.float32)
        found[f"{stem}.bias"] = rng.random(outputs, np.float32)
    return found


def test_a_torch_file_of_vgg16_loads_and_converts(torchvision, tmp_path, capsys):
    (tmp_path / "vgg16.pth").write_bytes(torch_pickles(torchvision))
    before = vgg16_file.load(tmp_path / "vgg16.pth")
    assert before.convention == "torchvision" and len(before.kernels) == 13
    expected = torchvision["features.28.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(before.kernels["conv5_3"], expected)

    out = tmp_path / "vgg16.safetensors"
    assert run("convert", tmp_path / "vgg16.pth", "--out", out) == 0
    assert capsys.readouterr().out.startswith(f"{out}: VGG-16, torchvision, ")
    with safetensors.safe_open(out, framework="numpy") as file:
        assert file.metadata() == {
            "network": "VGG-16",
            "convention": "torchvision",
            "source_sha256": store.sha256(tmp_path / "vgg16.pth"),
        }
        assert {*file.keys()} == torchvision.keys() - {"classifier.6.bias"}
    after = vgg16_file.load(out)
    assert after.convention == "torchvision"
    assert all(np.array_equal(after.kernels[name], kernel) for name, kernel in before.kernels.items())


def test_the_heads_of_lpips_load_and_convert(heads, torchvision, tmp_path, monkeypatch):
    content = torch_pickles(heads)
    monkeypatch.setenv("DPCONV_JAX_WEIGHTS", str(tmp_path))
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(store.KNOWN, "lpips", dataclasses.replace(store.KNOWN["lpips"], digest=digest))
    (tmp_path / store.KNOWN["lpips"].file).write_bytes(content)  # put there by hand: no record
    trunk = vgg16_file.parameters(torchvision, {}, source="random")
    found = store.load_lpips(trunk=trunk)
    assert isinstance(found, model.LPIPS) and found.trunk is trunk
    converted = convert.convert(store.locate("lpips"), tmp_path / "heads.safetensors")
    assert converted.metadata == {"network": "LPIPS heads", "source_sha256": digest}
    again = store.load_lpips(tmp_path / "heads.safetensors", trunk=trunk)
    for first, second, head in zip(found.heads, again.heads, heads.values(), strict=True):
        np.testing.assert_array_equal(first, head.reshape(-1))
        np.testing.assert_array_equal(second, first)


def test_a_converted_inception_is_not_official(tmp_path):
    """Its hash is not the published one; nothing made with it is called FID."""
    ones = {name: np.ones(shape, np.float16) for name, shape in inception.shapes().items()}
    np.savez(tmp_path / "ones.npz", **ones, unused=np.zeros(3))
    converted = convert.convert(tmp_path / "ones.npz", tmp_path / "ones.safetensors")
    assert (converted.metadata["network"], converted.tensors) == ("Inception-v3", len(ones))
    found = store.load_inception(tmp_path / "ones.safetensors")
    assert not found.official and found.head.shape == (2048, 1008)


def test_what_cannot_be_converted(heads, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert run("convert", tmp_path / "other.npz", "--out", tmp_path / "out.safetensors") == 2
    assert "holds none of VGG-16, LPIPS heads and Inception-v3" in error(capsys)
    np.savez(tmp_path / "heads.npz", **heads)
    assert run("convert", tmp_path / "heads.npz", "--out", tmp_path / "out.npz") == 2
    assert "is named *.safetensors" in error(capsys)
    assert run("convert", tmp_path / "heads.npz", "--out", tmp_path / "absent" / "out.safetensors") == 2
    assert "cannot be written" in error(capsys)
    before = (tmp_path / "heads.npz").rename(tmp_path / "heads.safetensors")
    safetensors.numpy.save_file(heads | {"more": np.zeros(3)}, before)
    whole = before.read_bytes()
    assert run("convert", before, "--out", before) == 2
    assert "would replace" in error(capsys) and before.read_bytes() == whole
    before.unlink()
    np.savez(tmp_path / "heads.npz", **{name: head for name, head in heads.items() if "lin4" not in name})
    assert run("convert", tmp_path / "heads.npz", "--out", tmp_path / "out.safetensors") == 2
    assert "lin4.model.1.weight is missing" in error(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.npz", "other.npz"]


def test_a_user_without_home_is_told_so(monkeypatch, capsys):
    """As in a container, where its number has no entry."""
    for name in ("HOME", "XDG_CACHE_HOME", "DPCONV_JAX_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cli.run(command.main, ["list"]) == 2
    assert capsys.readouterr().err == "error: this user has no home folder: set HOME\n"
