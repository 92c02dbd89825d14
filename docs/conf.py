"""Sphinx configuration: ``sphinx-build -W -n docs docs/_build``, with or without a network."""

import sys
from collections.abc import Iterator
from pathlib import Path

from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective

import hungarian_core

sys.path.insert(0, str(Path(__file__).parent))
import front_doors

project = "hungarian-core"
author = "the hungarian-core developers"
copyright = author
release = version = hungarian_core.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
default_role = "code"  # docstrings say `like this` for code

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings give shapes and dtypes, which annotations cannot
napoleon_attr_annotations = False
napoleon_custom_sections = ["Reference"]
python_maximum_signature_line_length = 88

# Inventories in Sphinx's plain-text format hold the few names that the pages refer to, so
# that a build looks nothing up on the network. A new external reference adds a line there.
intersphinx_mapping = {
    name: (url, f"inventories/{name}.txt")
    for name, url in {
        "python": "https://docs.python.org/3/",
        "numpy": "https://numpy.org/doc/stable/",
        "scipy": "https://docs.scipy.org/doc/scipy/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "jax": "https://docs.jax.dev/en/latest/",
    }.items()
}


class FrontDoor(SphinxDirective):
    """``.. front-door:: module`` documents what a module of an adapter lists as its own."""

    required_arguments = 1

    def run(self):
        (module,) = self.arguments
        known = front_doors.entries(module)
        lines = [f".. py:currentmodule:: {module}", ""]
        for name in front_doors.listed(module):
            if name in known and known[name].kind != "same":
                lines += self.written(known[name])
        return self.parse_text_to_nodes("\n".join(lines))

    def written(self, entry: front_doors.Entry) -> Iterator[str]:
        yield f".. py:{entry.kind}:: {entry.name}{entry.signature}"
        yield ""
        body = [*GoogleDocstring(entry.text, self.config).lines(), ""]
        for method in entry.methods:
            body += self.written(method)
        for line in "\n".join(body).split("\n"):  # of an error, napoleon's line may be several
            yield f"   {line}" if line else ""


def setup(app):
    app.add_directive("front-door", FrontDoor)
