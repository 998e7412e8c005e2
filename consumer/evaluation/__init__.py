"""Evaluation: how good decisions were, from their files and the labels, as figures and a page."""
