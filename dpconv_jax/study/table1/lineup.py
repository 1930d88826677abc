"""The methods of Table 1: how each learned one is trained and restored, and each as a function of batches."""

import hashlib
import pathlib

import numpy as np
from flax import traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dpconv_jax import distributed
from dpconv_jax.baselines import classical
from dpconv_jax.checkpoints import newest_step, restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.evaluate import Method
from dpconv_jax.evaluation.methods import TEXTURE, Network, textured
from dpconv_jax.inpainting import model
from dpconv_jax.signals import Stop
from dpconv_jax.training import train
from dpconv_jax.training.experiment import Experiment, open_source
from dpconv_jax.training.workdir import compare
from dpconv_jax.weights import model_file

OF_THE_TABLE = ("methods", "datasets", "recipes", "by_dataset", "weights", "networks")  # the rest is of every training
OURS = "training of this table"  # as the source of a network; else it says where its weights were given


# ---- configs ----


def shared(config: ConfigDict, dataset: str) -> ConfigDict:
    """What all methods have in common on a dataset: the table's config without the sections of the table."""
    common = ConfigDict({name: section for name, section in config.to_dict().items() if name not in OF_THE_TABLE})
    common.data.name = dataset
    differing = config.by_dataset.get(dataset) or config.by_dataset.get(dataset.partition("/")[0], {})
    common.data.update({name: value for name, value in differing.items() if value != ""})
    common.eval.baselines = ()
    return common


def network(method: str) -> str:
    """The method without `+texture`: what is trained."""
    return method.removesuffix(TEXTURE)


def settings(config: ConfigDict, *, method: str, dataset: str) -> ConfigDict:
    """The config that a learned method is trained with."""
    return config.recipes[network(method)](shared(config, dataset))


def is_learned(config: ConfigDict, method: str) -> bool:
    """Whether the config has a recipe of it, or of what it adds texture to."""
    return network(method) in config.recipes


def given_weights(config: ConfigDict, *, method: str, dataset: str) -> pathlib.Path | None:
    """What to use instead of a training, None where it is trained."""
    path = config.weights.get(network(method), "")
    return model_file.located(path.replace("{dataset}", dataset)) if path else None


def check(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Raises UsageError for what can be known to fail before the first training."""
    if not config.methods or not config.datasets:
        raise UsageError("config.methods and config.datasets must name at least one each")
    for field in ("methods", "datasets"):
        if len({*config[field]}) < len(config[field]):
            raise UsageError(f"config.{field} names one twice: {', '.join(config[field])}")
    known = [*config.recipes, *(name + TEXTURE for name in config.recipes), *classical.METHODS]
    for name in config.methods:
        if name not in known:
            raise UsageError(f"config.methods: {name!r} is unknown; known: {', '.join(known)}")
    for dataset in config.datasets:
        open_source(shared(config, dataset), "validation")
        for method in dict.fromkeys(network(name) for name in config.methods if is_learned(config, name)):
            _check_learned(config, workdir / dataset / method, method=method, dataset=dataset)


def _check_learned(config: ConfigDict, folder: pathlib.Path, *, method: str, dataset: str) -> None:
    mine = settings(config, method=method, dataset=dataset)
    experiment = Experiment.of(mine)
    given = given_weights(config, method=method, dataset=dataset)
    if given is not None:
        loaded = model.load(given, step=None)
        theirs = (loaded.metadata.model, loaded.metadata.options.get("variant"))
        wanted = (mine.model.name, mine.model.get("variant"))
        if theirs != wanted:
            said, ours = (" ".join(filter(None, names)) for names in (theirs, wanted))
            raise UsageError(f"config.weights.{method}: {given} holds a {said}, not a {ours}")
        if loaded.largest is not None and mine.data.size > loaded.largest:
            raise UsageError(
                f"config.weights.{method}: a dilation of {given} could not train at its {loaded.largest} x "
                f"{loaded.largest}, and data.size is {mine.data.size}"
            )
        return
    step = newest_step(folder)
    if step is not None:
        compare(mine, folder)
        if step > mine.train.steps:
            raise UsageError(f"train.steps is {mine.train.steps}; it must be at least {step}, where {folder} is")
    if step != mine.train.steps:
        experiment.open()


# ---- methods ----


def learned(config: ConfigDict, arena: pathlib.Path, *, method: str, dataset: str, mesh: Mesh, stop: Stop) -> Method:
    """A network at its last step, trained in arena/NAME before where that is not done and no weights are given."""
    name, folder = network(method), arena / network(method)
    path = given_weights(config, method=method, dataset=dataset)
    if path is None:
        path = folder
        trained(settings(config, method=method, dataset=dataset), folder, stop=stop)
    loaded = model.load(path, step=None)
    identity = {
        "source": OURS if path is folder else f"config.weights.{name}",
        "parameters": digest(loaded.params),
        "step": loaded.metadata.step,
        "trained at": loaded.metadata.size,
    }
    over_mesh = Network(loaded.graph, mesh, batch_size=config.eval.batch_size)
    raw = over_mesh.method(name, loaded.params, identity=identity)
    return raw if method == name else textured(raw)


def trained(mine: ConfigDict, folder: pathlib.Path, *, stop: Stop) -> None:
    """Trains to the last step unless an intact checkpoint of it is there."""
    if distributed.agreed(newest_step(folder) == mine.train.steps and restore_generator(folder)[2] == mine.train.steps):
        return
    print(f"training {folder}", flush=True)
    train.train(Experiment.of(mine), folder, stop=stop)


def digest(params: model_file.Params) -> str:
    """sha256 of names and values."""
    total = hashlib.sha256()
    for keys, leaf in sorted(traverse_util.flatten_dict(params).items(), key=lambda item: list(map(str, item[0]))):
        array = np.ascontiguousarray(leaf)
        total.update(f"{'.'.join(map(str, keys))} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return total.hexdigest()
