"""The one exception for a user's mistake: entry points print it as one line and exit with code 2."""


class UsageError(ValueError):
    """Bad input; the message is one line that names the value and the rule."""
