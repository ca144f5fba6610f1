"""A page to compare photos before and after: a folder that needs no network and can be given away."""

from deblur_cli.report.report import Report

__all__ = ["Report"]
