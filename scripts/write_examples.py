"""Write .env.example and .streamlit/secrets.toml.example from the settings themselves.

python scripts/write_examples.py    (a test fails when the files are out of date)
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from shared.config import ROOT, Settings

_ENV_HEAD = """\
# Every setting of BharatVerse, with its default. Copy this file to .env and take the '#' off the
# lines you change. The environment goes before .env, and .env before .streamlit/secrets.toml.
"""

_COMPOSE_TAIL = """
# Only for docker-compose.yml, which does not start without them (nor without FLOWER_PASSWORD).
# Letters and digits only, because they become part of a URL: openssl rand -hex 24

# The password of the database.
#POSTGRES_PASSWORD=

# The password of Redis.
#REDIS_PASSWORD=
"""

_TOML_HEAD = """\
# Every setting of BharatVerse, with its default. Copy this file to .streamlit/secrets.toml, or
# paste it into the secrets of Streamlit Community Cloud, and take the '#' off the lines you
# change. The environment and .env go before this file.
"""


def env_example() -> str:
    """The text of .env.example."""
    parts = [_ENV_HEAD]
    for item in fields(Settings):
        parts.append(f"\n{_reason(item)}\n#{item.name.upper()}={item.metadata['default']}\n")
    return "".join([*parts, _COMPOSE_TAIL])


def secrets_example() -> str:
    """The text of .streamlit/secrets.toml.example."""
    sections: dict[str, list[Field[Any]]] = {}
    for item in fields(Settings):
        section, _, _ = item.metadata["toml"].partition(".")
        sections.setdefault(section, []).append(item)
    return "".join([_TOML_HEAD, *(_section(name, items) for name, items in sections.items())])


def _section(name: str, items: list[Field[Any]]) -> str:
    return f"\n[{name}]\n" + "\n".join(_toml_lines(items)) + "\n"


def _toml_lines(items: list[Field[Any]]) -> Iterator[str]:
    for item in items:
        _, _, key = item.metadata["toml"].partition(".")
        yield f"{_reason(item)}\n#{key} = {_toml_value(item)}"


def _toml_value(item: Field[Any]) -> str:
    text: str = item.metadata["default"]
    value = item.metadata["kind"].parse(text)
    if isinstance(value, bool | int | float):
        return text
    # JSON's strings and lists are TOML's, too.
    return json.dumps(list(value) if isinstance(value, tuple) else text)


def _reason(item: Field[Any]) -> str:
    """The reason and what is allowed, as comment lines."""
    reason = item.metadata["reason"]
    sentence = f"{reason[0].upper()}{reason[1:]}. Allowed: {item.metadata['kind'].allowed}."
    return textwrap.fill(sentence, 98, initial_indent="# ", subsequent_indent="# ")


def examples() -> dict[Path, str]:
    """The example files and what they should hold."""
    return {
        ROOT / ".env.example": env_example(),
        ROOT / ".streamlit" / "secrets.toml.example": secrets_example(),
    }


if __name__ == "__main__":
    for path, text in examples().items():
        path.write_text(text, encoding="utf-8")
