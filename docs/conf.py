"""How the documentation is built: ``make docs`` writes it into ``build/docs``."""

from __future__ import annotations

import emo_rt

project = "emo_rt"
author = "the emo_rt team"
version = release = emo_rt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Array": "Array"}
autodoc_class_signature = "separated"  # most objects are made by a method of another, not by their class
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"emo_rt {release}"
html_static_path = ["_static"]
html_copy_source = False
html_show_sphinx = False
