"""What goes wrong and can be mended by the user."""


class UserError(Exception):
    """Says what came, what was expected and what to do; printed without a traceback."""
