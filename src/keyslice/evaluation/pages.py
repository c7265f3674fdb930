"""Jinja as every page of ours is written with it."""

import jinja2


def environment(package: str) -> jinja2.Environment:
    """For the templates of a package: text is escaped, and a name that is not there an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
