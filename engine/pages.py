"""Pages from a package's templates: Markdown as it is, HTML with everything escaped, and a name that isn't given is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ("rendered",)


def rendered(
    package: str, template: str, values: Mapping[str, Any], *, filters: Mapping[str, Callable[..., str]]
) -> str:
    """Return the page that a template of `package`'s folder `templates` makes of `values`.

    Args:
        template: its file; one that ends in `.html.j2` escapes what it shows.
        filters: what the template may call on a value, by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: commands that write no page do without

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= dict(filters)
    return environment.get_template(template).render(values)
