"""`python -m dpconv_jax.main` with the toy among its generators: for tests that need real processes."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from toy import Toy

from dpconv_jax import config_door, main
from dpconv_jax.models import GENERATORS

GENERATORS["toy"] = Toy
if __name__ == "__main__":
    sys.exit(config_door.run(main.main))
