"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was wrong, what was expected, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
