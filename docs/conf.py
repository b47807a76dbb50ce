"""How Sphinx builds these pages: `sphinx-build -W -b html docs docs/_build`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "minigrad"
author = "The minigrad authors"
project_copyright = author
version = release = installed_version("minigrad")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Every level can be looked at", "fixed_sidebar": True}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # pages link to source files, which are no pages

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes belong to the text of their class
default_role = "code"  # `x` in a docstring is code
# pytest runs the examples in docstrings; here only those of the pages themselves are run.
doctest_test_doctest_blocks = ""
