"""Every recipe loads, refuses what it does not know, and the paper's are the paper's."""

import importlib
import importlib.util
import pathlib
from typing import Any
from unittest import mock

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from dpconv_jax import cli
from dpconv_jax.errors import UsageError
from dpconv_jax.training import steps

FILE = pathlib.Path(__file__).resolve().parents[1] / "configs" / "dpconv.py"
PACKAGED = FILE.parents[1] / "dpconv_jax" / "configs"
COMPARED = {  # file, recipe of its own -> fields of the model; sections beside it that differ from DPConv's
    ("pconv", ""): ({"name": "pconv", "variant": "benchmark", "width": 1.0}, set()),
    ("pconv", "liu2018"): ({"name": "pconv", "variant": "liu2018", "width": 1.0}, {"loss", "optim"}),
    ("gconv", ""): ({"name": "gconv", "width": 1.0, "dilations": (2, 4, 8, 16)}, set()),
    ("gconv", "yu2019"): ({"name": "gconv", "width": 1.0, "dilations": (2, 4, 8, 16)}, {"loss", "optim"}),
}
PAPER = ("fashiongen", "fashionai", "deepfashion", "deepfashion2")
STARTER = ("starter", "starter_style", "starter_ssim", "starter_long")
VARIANTS = ("", "clothing_small", "image_folder", *STARTER, *PAPER)


def load(file: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"recipe_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(*arguments: str) -> ConfigDict:
    """The config as a command line gives it."""
    argv = ["main", *arguments]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    with mock.patch("sys.argv", argv):  # config_flags finds its overrides there
        values(argv)
    return values.config


def shape(config: ConfigDict) -> dict[str, Any]:
    """Field names and types, all levels."""
    return {key: shape(value) if isinstance(value, ConfigDict) else type(value) for key, value in config.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_states_deltas_of_the_base(variant: str):
    config = parse(f"--config={FILE}:{variant}" if variant else f"--config={FILE}")
    fields = shape(config)
    assert (fields["loss"].pop("ssim", None) is float) == (config.loss.recipe == "kinli2020_ssim")
    assert fields == shape(load(FILE.with_name("base.py")).get_config())
    others = {"": "synthetic_garments", **dict.fromkeys(STARTER, "clothing_small")}
    assert config.data.name == others.get(variant, variant)
    assert config.train.steps > 0 and config.train.batch_size > 0 and config.data.size % 8 == 0
    # A dilation reaches into the map, whose side is an eighth of the input's.
    assert max(config.model.dilations) < config.data.size // 8


def test_the_recipe_of_the_structure_network_is_one_that_trains():
    config = parse(f"--config={FILE.with_name('gconv.py')}:structure")
    assert steps.build(config).generator.composited
    assert {name for name, weight in steps.build(config).recipe.weights.items() if weight} == {"pixel", "tv", "ssim"}


@pytest.mark.parametrize("variant", PAPER)
def test_the_papers_recipe(variant: str):
    config = load(FILE).get_config(variant)
    assert (config.data.size, config.train.batch_size, config.train.steps) == (256, 64, 120_000)
    # Eq. (5)
    assert config.loss.to_dict().items() >= {"pixel": 10, "style": 120, "adversarial": 1e-3, "tv": 1e-4}.items()
    assert (config.model.variant, config.model.width, config.model.dilations) == ("paper", 1, (2, 4, 8, 2))
    assert (config.optim.b1, config.optim.b2) == (0.5, 0.9)
    assert (config.optim.generator_lr, config.optim.discriminator_lr) == (2e-4, 1e-4)
    assert config.data.flip


@pytest.mark.parametrize(("file", "own"), COMPARED)
def test_compared_methods_differ_in_what_their_papers_say(file: str, own: str):
    model, differing = COMPARED[file, own]
    ours = load(FILE).get_config("fashiongen")
    theirs = load(FILE.with_name(f"{file}.py")).get_config("-".join(filter(None, [own, "fashiongen"])))
    assert theirs.model.to_dict() == model
    assert {name for name in ours if ours[name] != theirs[name]} == {"model", *differing}
    if own == "liu2018":
        weights = {"valid": 1.0, "hole": 6.0, "perceptual": 0.05, "style": 120.0, "tv": 0.1}
        assert theirs.loss.to_dict() == {"recipe": "liu2018", **weights}
        optim = (theirs.optim.generator_lr, theirs.optim.finetune_lr, theirs.optim.finetune)
        assert optim == (2e-4, 5e-5, 0.1)
    if own == "yu2019":
        assert (theirs.optim.generator_lr, theirs.optim.discriminator_lr) == (1e-4, 1e-4)
        assert (theirs.optim.b1, theirs.optim.b2) == (0.5, 0.999)


@pytest.mark.parametrize("file", ["dpconv", "pconv", "gconv"])
def test_the_demo_needs_no_file(file: str):
    config = load(FILE.with_name(f"{file}.py")).get_config()
    assert config.loss.style == 0 and not config.vgg.weights and not config.mask.dir and not config.data.dir


def test_what_users_type_is_the_recipe_of_the_package():
    packaged = {path.name for path in PACKAGED.glob("*.py")} - {"__init__.py"}
    assert {path.name for path in FILE.parent.glob("*.py")} == packaged
    for name in packaged:
        ours = importlib.import_module(f"dpconv_jax.configs.{name.removesuffix('.py')}")
        assert load(FILE.with_name(name)).get_config is ours.get_config


@pytest.mark.parametrize("words", [["--config=configs/dpconv.py:starter"], ["--config", "configs/dpconv.py:starter"]])
def test_a_recipe_that_is_not_here_is_the_packages(words: list[str], tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = cli.read_config([*words, "--config.train.steps=7"])
    assert (config.train.steps, config.model.variant) == (7, "prefilled")
    line = "configs/dpconv.py is not here: the recipe of that name in the package is taken"
    assert capsys.readouterr().out.splitlines() == [line]


def test_a_recipe_that_is_here_goes_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "dpconv.py").write_text("""
from dpconv_jax.configs import base

def get_config():
    config = base.get_config()
    config.seed = 5
    return config
""")
    assert cli.read_config(["--config=configs/dpconv.py"]).seed == 5
    assert cli.read_config([f"--config={FILE}:starter"]).model.variant == "prefilled"  # and a full path from anywhere
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("file", ["configs/none.py", "dpconv.py", "mine/dpconv.py", "configs/mine/dpconv.py"])
def test_no_other_file_is_guessed(file: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=file):
        cli.read_config([f"--config={file}"])
    assert capsys.readouterr().out == ""


def test_two_loads_share_nothing():
    recipes = load(FILE)
    recipes.get_config().train.steps = 1
    assert recipes.get_config().train.steps > 1


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'fashion'.*clothing_small.*deepfashion2"):
        load(FILE).get_config("fashion")


def test_an_override_reaches_the_config():
    config = parse(f"--config={FILE}", "--config.train.steps=7", "--config.model.dilations=(1, 1, 1, 1)")
    assert (config.train.steps, config.model.dilations) == (7, (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--config.train.step=3", "step"), ("--config.train.steps=many", "many"), ("--config.train.steps=1.5", "1.5")],
)
def test_misspelt_fields_and_wrong_types_are_refused(argument: str, message: str):
    with pytest.raises((flags.Error, AttributeError, TypeError, ValueError), match=message):
        parse(f"--config={FILE}", argument)


def test_a_parsed_config_takes_no_new_field():
    with pytest.raises(AttributeError, match="batchsize"):
        parse(f"--config={FILE}").train.batchsize = 3
