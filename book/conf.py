"""Sphinx's settings of the site; `python -m book.build` gathers the pages and calls it."""

import importlib.metadata
from pathlib import Path

project = "Why Transformers crash without learning-rate warmup"
author = "The course_lib maintainers"
copyright = "the course_lib maintainers. Prose and figures: CC BY 4.0; code: MIT"
release = importlib.metadata.version("course-lib")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "book.mathml", "book.docstrings"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "Transformers without warmup"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_extra_path = [str(Path(__file__).parents[1] / "build" / "source" / "extra")]
html_show_sphinx = False
html_copy_source = False

nb_execution_mode = "off"  # they come with their outputs
nb_ipywidgets_js = {}  # a page has no kernel, and fetches no script
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 2

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "imported-members": True}
add_module_names = False
napoleon_numpy_docstring = False
default_role = "literal"
