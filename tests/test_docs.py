"""The pages say what is there: links lead somewhere, commands parse, graphs and tables are those of the code."""

import argparse
import ast
import importlib
import inspect
import itertools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from flax import nnx
from PIL import Image
from test_configs import load as config_file
from test_configs import shape
from test_house import DOORS, FLOW
from toy import weight_file

from docs import pages as site
from dpconv_jax import cli
from dpconv_jax.data.builders.collection import Collection
from dpconv_jax.data.sources import BUILDERS
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.suite import PANEL
from dpconv_jax.models.dpconv import DPConv

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = site.found(*site.PAGES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FENCE = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    return [Block(found[3], textwrap.dedent(found[4])) for found in FENCE.finditer(read(page))]


def prose(page: str) -> str:
    """The page without its blocks."""
    return FENCE.sub("", read(page))


# ---- links ----


def slugs(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(1)))
        found.add(next(name for name in names if name not in found))
    return found


def links(text: str) -> list[str]:
    """What the links and images of a text lead to, but for other sites."""
    text = SPAN.sub("", text)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)", text)
    return [link for link in found if not re.match(r"\w+:", link)]


def dead(page: str, link: str) -> str:
    """Why a link of a page leads nowhere; empty where it leads somewhere."""
    path, _, anchor = link.partition("#")
    target = ROOT / page if not path else (ROOT / page).parent / path
    if path.startswith("/") or not target.resolve().is_relative_to(ROOT) or not target.is_file():
        return f"{link}: no such file"
    if anchor and anchor not in slugs(target.read_text(encoding="utf-8")):
        return f"{link}: no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    assert not [why for link in links(prose(page)) if (why := dead(page, link))]


def test_dead_links_are_found():
    assert slugs("# A `b` of [c](d.md): (e)\n## A\n## A\n```\n# no\n```\n") == {"a-b-of-c-e", "a", "a-1"}
    found = ["README.md#tests", "a.png", "README.md#none", "../x", "#none", "/README.md", "docs"]
    text = " ".join(f"[a `b`]({link})" for link in found)
    assert links(f'{text} [![a](b.png)](c) `[x](y)` [a](https://a.b) <img src="d">') == [*found, "b.png", "c", "d"]
    assert [bool(dead("README.md", link)) for link in found] == [False, *[True] * 6]


# ---- Python ----


def missing(code: str) -> list[str]:
    """Names of this package that a piece of code imports or uses and that do not exist."""
    known: dict[str, Any] = {}
    lacking = []

    def found(whole: Any, name: str) -> Any:
        if hasattr(whole, name):
            return getattr(whole, name)
        try:
            return importlib.import_module(f"{whole.__name__}.{name}")
        except (ImportError, AttributeError):
            lacking.append(name)
            return None

    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in (alias for alias in node.names if alias.name.split(".")[0] == "dpconv_jax"):
                module = importlib.import_module(alias.name)
                known[alias.asname or "dpconv_jax"] = module if alias.asname else importlib.import_module("dpconv_jax")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dpconv_jax":
            module = importlib.import_module(str(node.module))
            known |= {alias.asname or alias.name: found(module, alias.name) for alias in node.names}
    for node in ast.walk(ast.parse(code)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and known.get(node.value.id) is not None
        ):
            found(known[node.value.id], node.attr)
    return lacking


@pytest.mark.parametrize("page", PAGES)
def test_python_uses_what_exists(page: str):
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, page, "exec")
            assert not missing(block.text)


def test_missing_names_are_found():
    code = "import dpconv_jax\nfrom dpconv_jax.study import published, fill\ndpconv_jax.lod('x')\npublished.drawing()"
    assert missing(code) == ["fill", "lod", "drawing"]


# ---- commands ----

BASH = r"""
command_not_found_handle() { local IFS=$'\x1f'; printf '%s\x1e' "$*"; }
source() { [[ $1 == activate ]]; }
PATH=/nowhere
"""


def commands(script: str, folder: pathlib.Path) -> list[list[str]]:
    """The words of every command that a shell script runs: bash reads it and finds no program to start."""
    script = BASH + re.sub(r"(?<!\S)\.venv/bin/", "", script)
    names = ("CLOTHING", "VGG16")
    environment = {name: f"${name}" for name in names}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split("\x1f") for line in done.stdout.split("\x1e") if line]


class Script(NamedTuple):
    """A shell block of a page, which is complete, or a command in its text, which may leave flags out."""

    text: str
    complete: bool


def scripts(page: str) -> Iterator[Script]:
    """Those of a page; where its text says `a\\|b`, one for each."""
    for block in blocks(page):
        if block.language in ("sh", "bash", "shell"):
            yield Script(block.text, True)
        elif block.language == "console":
            yield Script("\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)), True)
    for span in SPAN.finditer(prose(page)):
        text = " ".join(span[2].split())
        known = r"(\.venv/bin/)?(python|pip|make|bash|sbatch|uv|pytest|time make) "
        if re.match(known, text) and not re.search(r"\w\.\.\.", text):
            words = [re.split(r"\\?\|", word) for word in text.split(" ")]
            yield from (Script(" ".join(chosen), False) for chosen in itertools.product(*words))


class _Parsed(Exception):
    """What a command's parser made of its words: the options and the rest."""


def relax(parser: argparse.ArgumentParser) -> None:
    """Nothing is required any more, neither by a parser nor by those of its subcommands."""
    for action in parser._actions:
        action.required = False
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                relax(below)


def parse(module: str, words: Sequence[str], *, complete: bool) -> None:
    """Lets the parser of a command of this package read its words, and its config too. Raises UsageError."""
    package = importlib.util.find_spec(module)
    assert package is not None, f"no module {module}"
    command = importlib.import_module(f"{module}.__main__" if package.submodule_search_locations else module)
    reading = argparse.ArgumentParser.parse_known_args
    nested = False

    def stop(parser: cli.Parser, args: Any = None, namespace: Any = None) -> Any:
        nonlocal nested
        if nested:  # the parser of a subcommand
            return reading(parser, args, namespace)
        nested = True
        if not complete:
            relax(parser)
        raise _Parsed(*reading(parser, args, namespace))

    with mock.patch.object(cli.Parser, "parse_known_args", stop), pytest.raises(_Parsed) as found:
        command.main(list(words))
    _, rest = found.value.args
    if "cli.read_config(" in inspect.getsource(command):
        rest = [word for word in rest if complete or word != "--config=..."]
        if not complete and not any(word.startswith("--config=") for word in rest):
            rest.insert(0, "--config=configs/table1.py")  # which has all fields
        cli.read_config(rest)
    elif rest:
        raise UsageError(f"{rest[0]!r} is no flag of {module}")


def options(file: pathlib.Path) -> set[str]:
    """The flags that a benchmark defines, and those of the parser that benchmarks share."""
    trees = [ast.parse(path.read_text()) for path in (file, ROOT / "benchmarks" / "side_by_side.py")]
    strings = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in strings if isinstance(value, str) and value.startswith("--")}


def check(words: Sequence[str], *, complete: bool = True) -> None:
    """Asserts that a command, its flags and the files that it names exist."""
    for word in words:
        path = re.split(r"=|:", word.removeprefix("--config="))[0]
        if re.match(r"(configs|benchmarks|launch|tests|notebooks)/", path):
            assert (ROOT / path).exists(), f"no {path}"
        for extra in re.findall(r"^\.\[([\w,]+)\]$", word):
            assert {*extra.split(",")} <= {*PROJECT["project"]["optional-dependencies"]}, word
    for flag, known in (
        ("--extra", PROJECT["project"]["optional-dependencies"]),
        ("--group", PROJECT["dependency-groups"]),
    ):
        assert {words[index + 1] for index, word in enumerate(words) if word == flag} <= {*known}, words
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= {*targets}, words
    if "python" not in words[:-1]:
        return
    words = words[words.index("python") + 1 :]
    if words[0] == "-c":
        compile(words[1], "python -c", "exec")
        assert not missing(words[1])
    elif words[0] == "-m" and words[1].split(".")[0] == "dpconv_jax":
        assert ".".join(words[1].split(".")[1:]) in {each.removesuffix(".__main__") for each in DOORS}, words[1]
        parse(words[1], words[2:], complete=complete)
    elif (words[0] == "-m" and words[1].startswith("benchmarks.")) or words[0].startswith("benchmarks/"):
        file = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
        assert (ROOT / file).is_file(), f"no {file}"
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert used <= options(ROOT / file), f"{file} has no {used - options(ROOT / file)}"
    elif words[0] == "-m":
        assert importlib.util.find_spec(words[1]), f"no module {words[1]}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    for script in scripts(page):
        for words in commands(script.text, tmp_path):
            check(words, complete=script.complete)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "script",
    [
        "make tests",
        "python -m dpconv_jax.paint --image=a",
        "python -m dpconv_jax.inpaint --checkpoint=a --image=a --masks=a --out=b",
        "python -m dpconv_jax.weights send lpips",
        "python -m dpconv_jax.weights fetch",
        "python -m dpconv_jax.data.prepare --dataset=deepfashion2 --dir=DIR",
        "python -m dpconv_jax.main --config=configs/dpconv.py:clothing --workdir=runs/a",
        "python -m dpconv_jax.main --config=configs/dpconv.py --config.train.step=3",
        "python -m dpconv_jax.main --config=configs/dpconv.py --config.train.steps=many",
        "python -m dpconv_jax.study.table1 export --config=... --workdir=a",
        "CORES=1 bash launch/locals.sh 2 -- python -m dpconv_jax.main --config=configs/dpconv.py",
        "bash launch/local.sh 2 -- python -m dpconv_jax.main --config=configs/dpconv.py --wokdir=a",
        "python -m benchmarks.speed",
        "python benchmarks/masks.py --quick=FOLDER",
        "python -m pytest -s tests/test_nothing.py",
        'pip install ".[everything]"',
        "uv run --extra tests python -m pytest",
        "python -c 'from dpconv_jax import lod'",
    ],
)
def test_wrong_commands_are_found(script: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    found = commands(script, tmp_path)
    with pytest.raises((AssertionError, UsageError)):
        check(*found)


def test_a_script_is_read_as_bash_reads_it(tmp_path: pathlib.Path):
    script = """
        t() { taskset -c ${CORES:-0,1} .venv/bin/python -m a --b=$CLOTHING "$@"; }  # a comment
        CORES=1 t --c="('d','e')" \\
          f
        wait
    """
    words = ["taskset", "-c", "1", "python", "-m", "a", "--b=$CLOTHING", "--c=('d','e')", "f"]
    assert commands(script, tmp_path) == [words]


def fields(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, below in tree.items():
        yield above + name
        if isinstance(below, dict):
            yield from fields(below, f"{above}{name}.")


@pytest.mark.parametrize("page", PAGES)
def test_config_fields_exist(page: str):
    configs = [
        config_file(ROOT / "configs" / f"{name}.py").get_config() for name in ("dpconv", "pconv", "gconv", "table1")
    ]
    known = {name for config in configs for name in fields(shape(config))}
    named = re.findall(r"--config\.([a-z]\w*(?:\.[a-z]\w*)*)", read(page))
    assert {*named} <= known


# ---- what pages say of the code ----


def graphs(page: str) -> list[str]:
    return [block.text for block in blocks(page) if block.language == "mermaid"]


def nodes(graph: str) -> set[str]:
    """Of a Mermaid graph."""
    lines = [line for line in graph.splitlines() if not re.match(r" *(graph|class|classDef|%%)", line)]
    bare = [re.sub(r"(\[|\(|\{).*(\]|\)|\})", "", line) for line in lines]
    return {name.strip() for line in bare for name in re.split(r"--(?: \S+ --)?>|-\.->|&", line)}


def test_the_graph_of_dpconv_is_the_network():
    network = nnx.eval_shape(lambda: DPConv(rngs=nnx.Rngs(0)))
    graph, state = nnx.split(network)
    arrays = (jax.ShapeDtypeStruct((1, 256, 256, channels), jnp.float32) for channels in (3, 1))
    _, masks = jax.eval_shape(lambda state, x, mask: nnx.merge(graph, state)(x, mask), state, *arrays)
    expected = {}
    for name in [*masks, "a1", "a2"]:
        layer = getattr(network, name, None)
        if name == "input":
            expected[name] = "input<br>3 at 256²"
        elif name.startswith("a"):
            side = {"a1": masks["d4"], "a2": masks["u1"]}[name].shape[1]
            expected[name] = f"{name}<br>{layer.value.kernel.shape[1]} at {side}²"
        else:
            size, _, _, channels = layer.kernel.shape
            how = f", stride {layer.strides}" * (layer.strides > 1) + f", dilation {layer.dilation}" * (
                layer.dilation > 1
            )
            expected[name] = f"{name}: {size}\u00d7{size}{how}<br>{channels} at {masks[name].shape[1]}²"
    text = graphs("docs/architecture.md")[1]
    assert dict(re.findall(r"(\w+)(?:\[|\(\[|\{\{)\"(.*?)\"", text)) == expected
    assert nodes(text) == {*expected}
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    assert f"{count:,} parameters" in read("docs/architecture.md")


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables whose first cell is a `name`, by that name; the first of each."""
    found: dict[str, list[str]] = {}
    for line in read(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"\| `[\w/]+` \|.*\|", line):
            found.setdefault(cells[0].strip("`"), cells[1:])
    return found


def test_every_metric_has_its_line():
    found = rows("docs/metrics.md")
    assert list(found)[: len(PANEL)] == [metric.name for metric in PANEL]
    text = prose("docs/metrics.md").partition("## Definitions")[2]
    for metric in PANEL:
        better = "↑" if metric.higher_is_better else "↓"
        assert found[metric.name][:3] == [metric.label, metric.region, better]
        assert f"`{metric.name}`" in text, f"{metric.name} has no definition"


def test_every_dataset_has_its_line():
    found = rows("docs/datasets.md")
    assert {*BUILDERS, "image_folder"} <= {*found}
    for name, builder in BUILDERS.items():
        published = builder.PUBLISHED if issubclass(builder, Collection) else {"train": "2,700", "validation": "300"}
        assert found[name][-1] == ", ".join(f"`{split}` {count}" for split, count in published.items())


def test_results_are_listed():
    listed = {link.partition("#")[0] for link in links(prose("docs/results/README.md"))}
    folder = ROOT / "docs" / "results"
    pages = {path.relative_to(folder).as_posix() for path in [*folder.rglob("*.md"), *folder.glob("*.jpg")]}
    assert pages - {"README.md"} <= listed


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load(read("CITATION.cff"))
    project = PROJECT["project"]
    assert [cited[name] for name in ("version", "license", "abstract", "keywords")] == [
        project[name] for name in ("version", "license", "description", "keywords")
    ]
    assert "## [Unreleased]" in read("CHANGELOG.md")


# ---- what takes longer ----


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Its files are made for it: a weight file where it loads a workdir, a photo, and a mask with a hole."""
    monkeypatch.chdir(tmp_path)
    code = [block.text for block in blocks("README.md") if block.language == "python"]
    assert code
    rng = np.random.default_rng(0)
    for name in re.findall(r"\"([\w./-]+)\"", "\n".join(code)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("runs/") or path.suffix == ".safetensors":
            weight_file(tmp_path / "made.safetensors").rename(path)
        elif "mask" in name:
            Image.fromarray(np.where(np.mgrid[:40, :48][0] < 9, 0, 255).astype(np.uint8)).save(path)
        elif path.suffix:
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(path)
    for text in code:
        exec(compile(text, "README.md", "exec"), {})


@pytest.mark.slow
def test_the_site_is_built(tmp_path: pathlib.Path):
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    arguments = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {
        page: (tmp_path / f"{page}.html").read_text()
        for page in ("index", "api/layers", "api/commands", "api/evaluation")
    }
    assert "docs/architecture.html" in pages["index"]
    assert 'id="dpconv_jax.layers.partial_conv.partial_conv"' in pages["api/layers"]
    assert "--mask_hole" in pages["api/commands"]
    assert {path.stem for path in (tmp_path / "api").glob("*.html")} == {*FLOW, "index", "commands"}
