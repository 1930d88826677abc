"""Images smaller than the array they lie in: what is beyond them must count for nothing."""

import jax


def resized(inside: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """inside (B, H, W, 1), 1 = image, 0 = beyond, at the resolution of x (B, h, w, C), a whole fraction of its own.

    None, here and everywhere, is all image.
    """
    if inside is None:
        return None
    return inside[:, :: inside.shape[1] // x.shape[1], :: inside.shape[2] // x.shape[2]]


def within(x: jax.Array, inside: jax.Array | None) -> jax.Array:
    """x (B, h, w, C), zero beyond its image."""
    pixels = resized(inside, x)
    return x if pixels is None else x * pixels.astype(x.dtype)
