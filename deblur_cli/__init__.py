"""deblur: restore what moved in a photo and leave the rest as it was."""

__version__ = "0.1.0"
