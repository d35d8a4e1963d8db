"""Which saved tensor goes to which of the network's, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor


def match_names(
    saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """({network's name: saved name}, notes): equal names, or equal but for a common prefix.

    A prefix (whole dotted components, carried by every name of one side) is set aside only where
    that leaves nothing over on either side; otherwise equal names are paired as they are.
    `num_batches_tracked` and second names of tied tensors need no partner.
    """
    as_they_are = {name: name for name in wanted if name in saved}
    for ours in _common_prefixes(wanted):
        for theirs in _common_prefixes(saved):
            pairs = {
                name: theirs + name.removeprefix(ours)
                for name in wanted
                if theirs + name.removeprefix(ours) in saved
            }
            if len(pairs) == len(saved) and _complete(pairs, wanted):
                return pairs, _notes(theirs, ours)
    return as_they_are, ()


def _complete(pairs: Iterable[str], wanted: Mapping[str, Tensor]) -> bool:
    filled = {id(wanted[name]) for name in pairs}
    return all(
        id(tensor) in filled or name.rpartition(".")[2] == "num_batches_tracked"
        for name, tensor in wanted.items()
    )


def _common_prefixes(names: Iterable[str]) -> Iterator[str]:
    """ "", then each longer run of leading components that all names share."""
    parts = [name.split(".")[:-1] for name in names]
    prefix = ""
    yield prefix
    for components in zip(*parts, strict=False):
        if len(set(components)) > 1:
            return
        prefix += components[0] + "."
        yield prefix


def _notes(theirs: str, ours: str) -> tuple[str, ...]:
    notes = []
    if theirs:
        notes.append(f"the prefix {theirs!r} of the checkpoint's names was set aside")
    if ours:
        notes.append(f"the prefix {ours!r} of the network's names was set aside")
    return tuple(notes)
