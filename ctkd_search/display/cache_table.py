"""The list of the teacher cache, and the removal of its entries, for `ctkd-search cache`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkd_search.cache_index import CacheIndex
from ctkd_search.display.tables import plain_table
from ctkd_search.errors import UserError
from ctkd_search.leases.lease import holder, living
from ctkd_search.records.store import TEACHERS
from ctkd_search.text import settings, size
from ctkd_search.units import duration

if TYPE_CHECKING:
    from rich.console import Console


def print_cache(root: Path, console: Console) -> None:
    """Prints the entries of the teacher cache, the largest first."""
    index = CacheIndex(root / TEACHERS)
    _remove_leftovers(index, console)
    entries = sorted(index.all(), key=lambda entry: -entry.bytes)
    if not entries:
        console.print(f"the teacher cache in {root / TEACHERS} is empty", soft_wrap=True, highlight=False)
        return
    table = plain_table("id", "what", "size", "last used by", "on")
    for entry in entries:
        day = datetime.datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        table.add_row(entry.id, _what(entry.about), size(entry.bytes), entry.search, day)
    console.print(table)
    console.print(f"{size(sum(entry.bytes for entry in entries))} in all", highlight=False)


def remove_from_cache(
    root: Path, ids: Sequence[str], unused_for: str | None, everything: bool, console: Console
) -> None:
    """Removes entries of the teacher cache.

    Args:
        root: Directory of the searches.
        ids: Names of entries, as in the list.
        unused_for: Remove entries that have not been used for this long.
        everything: Remove every entry.
        console: Where to write.

    Raises:
        UserError: Nothing was named, or an entry that does not exist or is being recorded.
    """
    index = CacheIndex(root / TEACHERS)
    _remove_leftovers(index, console)
    kept = {entry.id: entry for entry in index.all()}
    unknown = [name for name in ids if name not in kept]
    if unknown:
        raise UserError(f"the cache has no entry {', '.join(unknown)}; list the entries with: ctkd-search cache")
    if not (ids or unused_for or everything):
        raise UserError(
            "nothing was named to be removed; give IDs from the list of `ctkd-search cache`, "
            "--unused-for TIME, or --all"
        )
    doomed = {name: kept[name] for name in (kept if everything else ids)}
    if unused_for:
        try:
            oldest = time.time() - duration(unused_for)
        except ValueError as error:
            raise UserError(f"--unused-for {error}") from None
        doomed |= {name: entry for name, entry in kept.items() if entry.used < oldest}

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False)

    # All are looked at before the first is waited for, so that the wait for heartbeats is one for all of them.
    held = {name: root / TEACHERS / name for name in doomed if holder(root / TEACHERS / name)}
    looked = {name: living(path, what=f"the recording of {name}", say=say) for name, path in held.items()}
    busy = {name: owner for name, owner in looked.items() if owner}
    for name, owner in busy.items():
        if name in ids:
            raise UserError(f"{name} is being recorded by {owner}; remove it after that has ended")
        say(f"kept {name}, which is being recorded by {owner}")
        del doomed[name]
    for name in doomed:
        index.remove(name)
    freed = size(sum(entry.bytes for entry in doomed.values()))
    console.print(f"removed {len(doomed)} of {len(kept)}, {freed}", highlight=False)


def _remove_leftovers(index: CacheIndex, console: Console) -> None:
    if freed := index.remove_leftovers():
        console.print(f"removed what interrupted removals and killed searches had left, {size(freed)}", highlight=False)


def _what(about: dict[str, Any]) -> str:
    views = f"; images: {settings(about['augment'])}" if isinstance(about.get("augment"), dict) else ""
    if about.get("kind") == "teacher":
        return f"teacher {about.get('architecture')}, {about.get('epochs')} epochs, seed {about.get('seed')}{views}"
    if about.get("kind") == "maps":
        return f"attention maps of {about.get('architecture')}{views}"
    if about.get("kind") == "pictures":
        side, size = about.get("side"), about.get("size")
        form = f"whole, shorter side {side} px at most, {about.get('encoding')}" if side else f"{size}x{size} px"
        return f"{about.get('pictures')} {about.get('what')} decoded, {form}"
    return "unknown"
