"""Decide card transactions of a Kinesis stream, each one once, in tens of milliseconds."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fraudstream")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
