"""The mathematics, on torch: a library that a notebook can use with no shell at all.

>>> from lsshell.engine import Engine
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BridgeRequest",
    "ContinuationRequest",
    "Engine",
    "EngineError",
    "WalkRequest",
    "WanderRequest",
]


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for."""
    if name == "EngineError":
        from lsshell.engine.errors import EngineError

        return EngineError
    if name in __all__:
        from lsshell.engine import engine

        return getattr(engine, name)
    raise AttributeError(name)
