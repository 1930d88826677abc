"""The rules of the house: who imports whom, what a door may hold, and what no file may say.

    python tests/test_house.py

draws the graph of docs/architecture.md again, from FLOW.
"""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dpconv_jax"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOORS = (
    "main",
    "inpaint",
    "demo",
    "export",
    *("data.prepare", "masks.__main__"),
    *("study.cost", "study.downstream", "study.figures", "study.learning"),
    *("study.mask_update.__main__", "study.table1.__main__"),
    "weights.__main__",
)  # nobody imports them
FLAGS = (*DOORS, "cli", "data.pipeline")  # who knows absl's; grain asks for them where it starts processes

# What each room imports from others, no less and no more; itself and `errors` go without saying. Read downwards, it is
# the flow of a run.
FLOW = {
    "main": {"training", "distributed", "cli"},
    "study": {
        *("training", "evaluation", "inpainting", "baselines", "weights", "checkpoints", "models", "layers", "data"),
        *("masks", "distributed", "signals", "cli", "progress", "files"),
    },
    "inpaint": {"inpainting", "cli", "progress"},
    "demo": {"inpainting", "data", "masks", "cli"},
    "export": {"inpainting", "cli", "files"},
    "training": {
        *("evaluation", "weights", "checkpoints", "models", "data", "masks", "distributed", "signals", "progress"),
        "files",
    },
    "evaluation": {"inpainting", "baselines", "models", "masks", "distributed", "files"},
    "inpainting": {"weights", "checkpoints", "models", "data", "patches", "progress", "files"},
    "baselines": {"patches"},
    "patches": set(),
    "weights": {"checkpoints", "models", "cli", "progress", "files"},
    "checkpoints": {"models", "distributed", "files"},
    "models": {"layers"},
    "layers": set(),
    "data": {"masks", "signals", "cli", "progress", "files"},
    "masks": {"cli", "progress", "files"},
    "distributed": {"signals"},
    "signals": set(),
    "cli": set(),
    "configs": set(),
    "progress": set(),
    "files": set(),
    "errors": set(),
}
NO_FILES = ("absl", "clu", "grain", "io", "json", "ml_collections", "os", "pathlib", "PIL", "tensorflow_datasets")
NO_JAX = ("jax", "flax", "optax", "orbax", "chex", "clu")
SELF_EXPLAINING = {  # drawing code, where the names of the cloths say it; an empty __init__; variants, as the file says
    *("data.synthetic.fabrics", "weights"),
    *("configs.dpconv", "configs.pconv", "configs.gconv", "configs.table1"),
}
BANNED = {  # room or module -> libraries it does not know
    "layers": NO_FILES,
    "models": NO_FILES,
    "training.losses": NO_FILES,
    "data": NO_JAX,
    "masks": NO_JAX,
    "errors": (*NO_JAX, *NO_FILES),
}


def name(path: pathlib.Path) -> str:
    """`models.vgg16` of dpconv_jax/models/vgg16.py, `models` of its __init__, "" of the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: pathlib.Path) -> Iterator[str]:
    """Everything a file imports, at its top or inside a function; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(imported: str, *packages: str) -> bool:
    return any(f"{imported}.".startswith(f"{package}.") for package in packages)


def texts() -> Iterator[pathlib.Path]:
    """The tracked text files, the lock apart."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in map(ROOT.joinpath, filter(None, listed.split("\0"))):
        if path.suffix not in {".png", ".jpg", ".npz", ".safetensors", ".lock"} and path.is_file():
            yield path


def flow() -> dict[str, set[str]]:
    """FLOW as the files have it."""
    found: dict[str, set[str]] = {}
    for path in filter(name, MODULES):
        room = name(path).split(".")[0]
        rooms = {found.split(".")[1] for found in imports(path) if under(found, "dpconv_jax") and found != "dpconv_jax"}
        found[room] = found.get(room, set()) | rooms - {room, "errors"}
    return found


def test_imports_are_those_of_the_flow():
    assert flow() == FLOW


def test_the_flow_has_no_cycle():
    order = list(FLOW)
    assert not [(room, below) for room in FLOW for below in FLOW[room] if order.index(below) <= order.index(room)]


def drawn(page: str) -> str:
    """A page with the first graph's arrows as FLOW has them: one for each import that does not follow from others."""
    order, below = [*FLOW], {}
    for room in reversed(order):
        below[room] = FLOW[room].union(*(below[each] for each in FLOW[room]))
    lines = []
    for room in order:
        direct = {each for each in FLOW[room] if not any(each in below[other] for other in FLOW[room])}
        lines += [f"  {room} --> {' & '.join(sorted(direct, key=order.index))}\n"] if direct else []
    lines += [f"  {room}\n" for room in order if not any(room in {each, *FLOW[each]} for each in order if FLOW[each])]
    return re.sub(r"(?<=graph LR\n).*?(?=  classDef)", "".join(lines), page, count=1, flags=re.DOTALL)


def test_the_graph_of_the_house_is_its_flow():
    page = ARCHITECTURE.read_text()
    assert "graph LR\n" in page and drawn(page) == page, "python tests/test_house.py draws it again"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_libraries_stay_in_their_rooms(path: pathlib.Path):
    banned = [library for where, libraries in BANNED.items() if under(name(path), where) for library in libraries]
    for found in imports(path):
        assert not under(found, *banned), found
        assert not under(found, "orbax") or name(path) == "checkpoints", found
        assert not under(found, "absl.flags", "absl.app", "ml_collections.config_flags") or name(path) in FLAGS, found
        assert not under(found, *(f"dpconv_jax.{door}" for door in DOORS)), found


def test_no_tensorflow():
    found = {path: [*imports(path)] for path in texts() if path.suffix == ".py"}
    assert {ROOT / "configs" / "base.py", pathlib.Path(__file__).resolve()} <= {*found}
    assert not [path for path, names in found.items() if any(under(each, "tensorflow", "keras") for each in names)]


def test_no_drawer_of_odds_and_ends():
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_the_top_is_short():
    assert len([*PACKAGE.glob("*.py")]) <= 12


def test_main_is_a_door():
    assert len((PACKAGE / "main.py").read_text().splitlines()) < 80


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes at the top of a file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_options_are_keyword_only(path: pathlib.Path):
    """A parameter with a default is an option, taken by name; None is an input left out.

    Apart from `get_config`, which ml_collections calls.
    """
    for node in public(ast.parse(path.read_text())):
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in (each for each in members if isinstance(each, ast.FunctionDef) and each.name != "get_config"):
            options = [ast.unparse(default) for default in function.args.defaults]
            assert {*options} <= {"None"}, f"{path.name}:{function.lineno}: {function.name}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_function_takes_more_than_six_parameters(path: pathlib.Path):
    """Options with defaults apart; more are one thing with a name. Numba's functions take bare arrays and numbers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and "compiled" not in map(ast.unparse, node.decorator_list):
            options = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            taken = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            needed = len(taken) - len(options) - (taken[:1] in (["self"], ["cls"]))
            assert needed <= 6, f"{path.name}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", [path for path in MODULES if name(path) not in SELF_EXPLAINING], ids=name)
def test_public_names_are_documented(path: pathlib.Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not [node.name for node in public(tree) if not ast.get_docstring(node)]


def test_functional_nnx_and_jit_only():
    """`jax.jit` with shardings; `pmap` is in maintenance and NNX's own transforms change their defaults."""
    calls = re.compile(r"\bpmap\b|\bnnx\.(jit|grad|value_and_grad|vmap|scan|pmap)\b")
    assert not [path for path in MODULES if calls.search(path.read_text())]


def test_no_path_of_one_machine():
    private = re.compile(r"(?<![\w.~$})-])/(?:home|root|Users|work)/")
    lines = [(path, line) for path in texts() for line in path.read_text().splitlines()]
    assert lines
    assert not [(str(path.relative_to(ROOT)), line) for path, line in lines if private.search(line)]


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    used = ("baselines", "beam", "bench", "demo", "h5")
    declared = [*project["dependencies"], *(each for extra in used for each in extras[extra])]
    distributions = {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in declared}
    owners = importlib.metadata.packages_distributions()
    for path in MODULES:
        for top in {found.split(".")[0] for found in imports(path)} - sys.stdlib_module_names - {"dpconv_jax"}:
            assert {each.lower().replace("_", "-") for each in owners[top]} & distributions, f"{name(path)}: {top}"


def test_the_lock_names_the_public_index_only():
    lock = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r"\w+://[^/\"]+", lock)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert set(re.findall(r"source = \{ (\w+) = ", lock)) == {"registry", "editable"}


def test_importing_the_package_is_cheap():
    code = "import sys, dpconv_jax; print(*{'jax', 'flax', 'numpy', 'tensorflow_datasets'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


if __name__ == "__main__":
    ARCHITECTURE.write_text(drawn(ARCHITECTURE.read_text()))
