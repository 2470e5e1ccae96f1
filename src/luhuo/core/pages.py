"""HTML pages from templates in the package: what they show is escaped, and a name that is missing is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def templates(package: str) -> jinja2.Environment:
    """The templates that lie beside the modules of a package."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
