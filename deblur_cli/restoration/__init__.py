"""One photo: what moved in it, and what it becomes without the blur."""

from deblur_cli.restoration.deblurrer import Deblurrer, Request, Result, untouched
from deblur_cli.restoration.engine import Progress, Tiling
from deblur_cli.restoration.findings import SCALES, Findings

__all__ = ["SCALES", "Deblurrer", "Findings", "Progress", "Request", "Result", "Tiling", "untouched"]
