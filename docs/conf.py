"""Sphinx configuration."""

project = "genonset"
author = "The genonset developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
html_theme = "furo"
html_title = "genonset"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 2
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_preserve_defaults = True
exclude_patterns = ["_build"]
napoleon_use_ivar = True
napoleon_custom_sections = ["Regime"]


def _as_written(app, what, name, obj, options, lines):
    """Docstrings are plain text: modules keep their layout, elsewhere | and * are characters."""
    if what == "module":
        lines[:] = ["::", "", *("   " + line for line in lines), ""]
    else:
        lines[:] = [line.replace("|", r"\|").replace("*", r"\*") for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", _as_written, priority=400)
