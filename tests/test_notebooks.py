"""The notebooks: both files of a pair agree, hold no outputs, install in Colab only, and run from an empty folder."""

import json
import pathlib
import shutil
import subprocess
import sys
import types
from importlib.metadata import version

import jupytext
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ("data_and_masks", "mask_update", "quickstart", "train_small")
REPOSITORY = "github.com/dpconv-jax/dpconv_jax"
COLAB = f"https://colab.research.google.com/{REPOSITORY.replace('.com', '')}/blob/main/notebooks"
INSTALL = f"""\
import sys

if "google.colab" in sys.modules:
    from importlib.metadata import version

    with open("constraints.txt", "w") as constraints:
        constraints.writelines(f"{{name}}>={{version(name)}}\\n" for name in ("jax", "jaxlib"))
    !git clone --quiet --depth 1 https://{REPOSITORY}
    %pip install --quiet --constraint constraints.txt --editable ./dpconv_jax
    sys.path.insert(0, "dpconv_jax")  # a kernel that already runs does not see an editable installation by itself"""
LIMIT = 1000  # seconds, for a busy machine: on two cores they take 20 to 80, and took 345 beside six other processes


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest) -> pathlib.Path:
    """A notebook's .ipynb; the .py stands beside it."""
    return ROOT / "notebooks" / f"{request.param}.ipynb"


def sources(path: pathlib.Path, kind: str) -> list[str]:
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == kind]


def test_every_notebook_is_tested():
    assert {path.name for path in (ROOT / "notebooks").iterdir() if path.suffix in (".py", ".ipynb")} == {
        f"{name}{suffix}" for name in NAMES for suffix in (".py", ".ipynb")
    }


def test_both_files_of_a_pair_agree(path):
    pair = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    notebook, script = ([(cell.cell_type, cell.source) for cell in each.cells] for each in pair)
    assert notebook == script
    assert {each.metadata["jupytext"]["formats"] for each in pair} == {"ipynb,py:percent"}


def test_no_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


def test_only_the_first_cell_installs_and_only_in_colab(path):
    first, *others = sources(path, "code")
    assert first == INSTALL
    assert not [source for source in others for line in source.splitlines() if line.strip().startswith(("!", "%"))]
    assert f"[colab]: {COLAB}/{path.name}\n" in sources(path, "markdown")[0]


def test_no_widget_draws_while_its_cell_runs(path):
    """As `interact` does: nbclient answers on the very socket on which it waits for the cell's reply, past asyncio.

    It may then never hear of the reply: two runs of seven hung (jupyter/nbconvert#2029, jupyter/nbclient#312).
    """
    assert not [source for source in sources(path, "code") if "interact(" in source]


@pytest.mark.parametrize("colab", [True, False])
def test_the_constraint_is_what_is_installed(tmp_path, monkeypatch, colab):
    """Without the two commands; pip keeps to the file, so no jax is replaced by an older one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec("\n".join(line for line in INSTALL.splitlines() if line.strip()[:1] not in ("!", "%")), {})
    lines = f"jax>={version('jax')}\njaxlib>={version('jaxlib')}\n"
    assert [each.read_text() for each in tmp_path.iterdir()] == [lines] * colab


@pytest.mark.slow
def test_it_runs_from_an_empty_folder(path, tmp_path):
    shutil.copy(path, tmp_path)
    # A cell that hangs is named before the whole is stopped.
    command = [sys.executable, "-m", "pytest", "--nbmake", f"--nbmake-timeout={LIMIT - 100}", path.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
