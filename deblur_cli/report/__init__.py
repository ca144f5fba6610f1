"""A page to compare photos before and after: a folder that works offline and can be given away."""

from deblur_cli.report.report import Report, write_comparison

__all__ = ["Report", "write_comparison"]
