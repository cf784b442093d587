"""The tree that is drawn in `dpiqa.errors` is the tree of the classes."""

import importlib
import pkgutil
import re

import dpiqa
from dpiqa import errors
from dpiqa.errors import DpiqaError


def drawn():
    """Return the drawn tree as pairs of parent and class."""
    pairs, branch = set(), {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ((?:[│ ]  )*)[├└]─ (\w+)", line)
        if match:
            depth = len(match[1]) // 3
            branch[depth] = match[2]
            pairs.add((branch[depth - 1] if depth else "DpiqaError", match[2]))
    return pairs


def declared(cls=DpiqaError):
    """Return the classes of the package as pairs of parent and class."""
    children = [child for child in cls.__subclasses__() if child.__module__.startswith("dpiqa.")]
    return {(cls.__name__, child.__name__) for child in children}.union(*map(declared, children))


def test_every_error_stands_in_the_drawn_tree_below_its_parent():
    for module in pkgutil.walk_packages(dpiqa.__path__, "dpiqa."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert declared() == drawn()
    assert len(drawn()) > 15
