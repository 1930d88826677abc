"""What XLA compiled, kept for the next command."""

import os
import pathlib

import jax


def keep_compiled() -> None:
    """Keeps what this process compiles in the user's cache, for the next one; JAX_COMPILATION_CACHE_DIR goes first."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "dpconv_jax" / "jax"))
