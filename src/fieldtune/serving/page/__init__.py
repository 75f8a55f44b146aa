"""The page for people: search as they type, answers, base against tuned, labels. Server-rendered, with htmx.

static/htmx.min.js is htmx.org 2.0.11 (0BSD), dist/htmx.min.js of the npm package, unchanged; its SHA-256 is
d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717.
"""

from fieldtune.serving.page.rendering import problem_page
from fieldtune.serving.page.routes import addresses, routers_of

__all__ = ["addresses", "problem_page", "routers_of"]
