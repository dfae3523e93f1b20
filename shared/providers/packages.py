"""Packages that only the workers have: imported on first use, missed with a plain sentence."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

from shared.errors import BharatVerseError


class ProviderMissing(BharatVerseError):
    """A package is missing here: run `pip install -r requirements-ai.txt`."""

    code = "provider_missing"


def package(module: str) -> Any:
    """The module; raises ProviderMissing where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ProviderMissing(
            f"The package {error.name or module} is missing here: "
            "run `pip install -r requirements-ai.txt`."
        ) from error


def version(*distributions: str) -> str:
    """The installed versions, joined by "+"; raises ProviderMissing."""
    try:
        return "+".join(metadata.version(name) for name in distributions)
    except metadata.PackageNotFoundError as error:
        raise ProviderMissing(
            f"The package {error.name} is missing here: run `pip install -r requirements-ai.txt`."
        ) from error
