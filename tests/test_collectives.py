"""What devices send each other in a training step: gradients and sums of a few numbers, and nothing else."""

import jax
import jax.numpy as jnp
import pytest
from toy import flat_vgg, rate

from benchmarks.collectives import Collective, collectives
from dpconv_jax import distributed
from dpconv_jax.configs import dpconv, gconv, pconv
from dpconv_jax.training import steps, train

RECIPES = {
    "dpconv": lambda: dpconv.get_config("fashiongen"),
    "pconv_liu2018": lambda: pconv.get_config("liu2018-fashiongen"),
    "gconv_yu2019": lambda: gconv.get_config("yu2019-fashiongen"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_moves_gradients_only(name):
    """No activation goes from one device to another; gradients once, the discriminator's for real and fake images."""
    config = RECIPES[name]()
    config.data.size, config.train.batch_size, config.model.width = 64, 8, 0.125
    if "dilations" in config.model:
        config.model.dilations = (1, 2, 3, 1)
    mesh = distributed.data_mesh(4)
    gan = steps.build(config)
    state = jax.eval_shape(lambda: steps.initialise(gan))
    batch = {name: jax.ShapeDtypeStruct((8, 64, 64, n), jnp.uint8) for name, n in (("image", 3), ("mask", 1))}
    step = train.compile_step(gan, rate(config), mesh).lower(state, batch, jax.eval_shape(flat_vgg), False).compile()
    found = collectives(step.as_text())
    once, twice = (4 * sum(x.size for x in jax.tree.leaves(tree)) for tree in (state.generator, state.discriminator))
    assert {each.kind for each in found} == {"all-reduce"}
    assert once + twice <= sum(each.size for each in found) <= 1.02 * (once + 2 * twice)


def test_reading_hlo():
    hlo = """
      %all-reduce.1 = (f32[3,3,8]{2,1,0:T(8,128)}, bf16[]{:T(256)}) all-reduce(%a, %b), channel_id=1
      %all-reduce-start.2 = f32[64]{0} all-reduce-start(%c), channel_id=2
      %all-reduce-done.2 = f32[64]{0} all-reduce-done(%all-reduce-start.2)
      %permute = (bf16[4,2]{1,0}, bf16[4,2]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%d)
      %add.4 = f32[64]{0} add(%all-reduce-done.2, %e)
    """
    assert collectives(hlo) == [
        Collective("all-reduce", {"f32": 288, "bf16": 2}),
        Collective("all-reduce", {"f32": 256}),
        Collective("collective-permute", {"bf16": 16, "u32": 4}),
    ]
