"""The pages as a site: `make site`. They stay Markdown, and are read in the repository as well."""

project = "trioworkers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "trioworkers"
exclude_patterns = ["changes"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nitpicky = True
suppress_warnings = [
    "toc.not_included"
]  # a page that index.md doesn't list yet is found by the search, and by the links to it
