"""How the documents become a site: make docs."""

project = "wsgisession"
author = "the authors of wsgisession"
copyright = "the authors of wsgisession"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = "wsgisession"
