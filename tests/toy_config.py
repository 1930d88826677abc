"""The recipe of `toy.tiny` as a file, for tests that need real processes."""

from toy import tiny as get_config  # noqa: F401 - what a config file must define
