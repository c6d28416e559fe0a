"""Ways of a request that take turns under one load: what each turn took, and the table of medians and ratios.

All ways take turns in every round; a ratio is the median over the rounds of the ratio inside a round. Rates share the
machine's processors among load, application and proxies, so that they flatter whoever is compared; the processor time
of the proxies for each request does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.loader import BIG, Door, Load, put


class Way(NamedTuple):
    """`proxies` are the processes on the way whose processor time counts."""

    name: str
    door: Door
    proxies: tuple[int, ...]


class Taken(NamedTuple):
    """One turn: answers a second, and microseconds of the way's proxies for each."""

    rate: float
    processor: float


class Columns(NamedTuple):
    """What a table compares: rates with the ways of these names, and processor time with that of the way `frugal`.

    `short` is what the ways are called in headings; `goals` are rates, by load, way, and the way they are a part of.
    """

    short: Mapping[str, str]
    frugal: str
    whose: str
    goals: Mapping[tuple[Load, str, str], float]


def processor_seconds(processes: Sequence[int]) -> float:
    """What all threads of these processes have used."""
    threads = (thread for process in processes for thread in Path(f"/proc/{process}/task").glob("*/schedstat"))
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def resident(process: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def turn(way: Way, load: Load, *, seconds: float) -> Taken:
    before = processor_seconds(way.proxies)
    answers, taken = await put(load, way.door, seconds=seconds)
    used = processor_seconds(way.proxies) - before
    return Taken(answers / taken, used / max(1, answers) * 1e6)


async def compare(load: Load, ways: Sequence[Way], columns: Columns, *, rounds: int, seconds: float) -> None:
    """Lets every way take a turn in every round, and prints the table."""
    print(f"\n{load.name}, {rounds} rounds of {seconds:g} s")
    for way in ways:
        await turn(way, load, seconds=min(1, seconds))  # warm, and not counted
    report(load, ways, [[await turn(way, load, seconds=seconds) for way in ways] for _ in range(rounds)], columns)


def report(load: Load, ways: Sequence[Way], rounds: Sequence[Sequence[Taken]], columns: Columns) -> None:
    """`rounds` has each round's turns, in the order of `ways`."""
    index = {way.name: at for at, way in enumerate(ways)}

    def ratio(way: str, base: str, of: Callable[[Taken], float]) -> float:
        return median(of(turns[index[way]]) / of(turns[index[base]]) for turns in rounds)

    width = max(28, *(len(way.name) + 2 for way in ways))
    unit = "Gbit/s" if load.big else "per s"
    headings = "".join(f"{f'/ {short}':>11}" for short in columns.short.values())
    frugal = f"{columns.short[columns.frugal]} /"
    print(f"{'':{width}}{unit:>9}{headings}{f'{columns.whose} us':>12}{frugal:>11}")
    for way in ways:
        taken = [turns[index[way.name]] for turns in rounds]
        rate = median(one.rate for one in taken) * (BIG * 8 / 1e9 if load.big else 1)
        ratios = {base: ratio(way.name, base, lambda one: one.rate) for base in columns.short}
        less = ratio(columns.frugal, way.name, lambda one: one.processor) if way.proxies else None
        goals = [
            f"  goal {goal} / {short}"
            for base, short in columns.short.items()
            if (goal := columns.goals.get((load, way.name, base))) is not None
        ]
        print(
            f"{way.name:{width}}{f'{rate:.2f}' if load.big else f'{rate:.0f}':>9}"
            + "".join(f"{each:11.3f}" for each in ratios.values())
            + f"{median(one.processor for one in taken):12.1f}"
            + (f"{'-':>11}" if less is None else f"{less:11.3f}")
            + "".join(goals)
        )
