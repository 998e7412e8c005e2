"""The cases, one module a group; importing this package registers all of them."""

import importlib
import pkgutil


def load() -> None:
    """Import every group, in the order of their names."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
