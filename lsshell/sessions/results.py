"""Results as a script carries them: `#= name=value …` lines under the command."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

MARK = "#="


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested results as dotted names to scalars; lists by index; None is left out."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat |= flatten({str(i): v for i, v in enumerate(value)}, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value
    return flat


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null in their place."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def extent(results: Mapping[str, Any]) -> Any:
    """How far a command came: sweeps, steps or epochs, by what its results count; else None."""
    return results.get("sweeps", results.get("steps", results.get("epochs")))


def result_lines(values: Mapping[str, Any]) -> list[str]:
    """`#=` lines for a command's results, one for each top-level name that holds several."""
    flat = flatten(values)
    groups: dict[str, list[str]] = {}
    for name, value in flat.items():
        head = name.partition(".")[0] if "." in name else ""
        groups.setdefault(head, []).append(f"{name}={_spell(value)}")
    return [f"{MARK} {' '.join(words)}" for words in groups.values()]


def read_results(lines: Iterable[str]) -> dict[str, Any]:
    """The flat results that `#=` lines hold; raises ValueError on a line that holds none."""
    flat: dict[str, Any] = {}
    for line in lines:
        rest = line.strip().removeprefix(MARK).strip()
        decoder = json.JSONDecoder()
        while rest:
            name, equals, rest = rest.partition("=")
            if not equals:
                raise ValueError(f"not a result: {name}")
            value, end = decoder.raw_decode(rest)
            flat[name.strip()] = value
            rest = rest[end:].lstrip()
    return flat


def _spell(value: Any) -> str:
    """JSON with no space outside strings; floats by their shortest exact decimal."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(str(value))
    return json.dumps(value, ensure_ascii=False)
