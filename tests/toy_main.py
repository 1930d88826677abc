"""The commands that train, with the toy among the generators: for tests that need real processes.

python tests/toy_main.py main|table1 [FLAGS]
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from toy import Toy

from dpconv_jax import cli, main
from dpconv_jax.models import GENERATORS
from dpconv_jax.study.table1 import __main__ as table1

GENERATORS["toy"] = Toy
if __name__ == "__main__":
    sys.exit(cli.run_with_config({"main": main, "table1": table1}[sys.argv[1]].main, sys.argv[2:]))
