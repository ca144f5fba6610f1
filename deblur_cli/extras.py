"""How to install what not everyone needs. Imports nothing."""


def how_to_install(extra: str) -> str:
    """Return the command that adds an extra of the package, as the README installs it."""
    return f'pip install ".[{extra}]" in your clone of deblur'
