"""Weights on a dataset whose truth is known, by the papers' own measures."""
