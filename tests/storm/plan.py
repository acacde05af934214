"""What happens in a storm, and in which order: drawn from a seed alone, so that the seed plays it again.

Some tracks run beside each other: one of Redis, one of its worker, one of the database, one of the network.
Each goes through faults one after the other, so that those of different tracks fall together as they like.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

#: Seconds that a fault lasts, and that pass before the next one of its track.
LONGEST_FAULT = 4.0
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Step:
    """One fault of a track: after ``pause`` seconds, ``fault`` for ``seconds``; ``seed`` is for its dice."""

    track: str
    number: int
    pause: float
    fault: str
    seconds: float
    seed: int

    def __str__(self) -> str:
        return f"{self.track} {self.number}: {self.fault} for {self.seconds:.2f} s"


def steps(seed: int, track: str, faults: Sequence[str], pace: float = 1.0) -> Iterator[Step]:
    """Yield the steps of a track without end; ``pace`` below 1 makes all of it shorter.

    Every fault of the track comes once before one of them comes again.
    """
    dice = random.Random(f"{seed} {track}")
    number = 0
    while faults:
        for fault in dice.sample(sorted(faults), len(faults)):
            number += 1
            pause, seconds = dice.uniform(0, LONGEST_PAUSE), LONGEST_FAULT * dice.random() ** 2
            yield Step(track, number, pause * pace, fault, seconds * pace, dice.randrange(1 << 30))


def schedule(seed: int, tracks: Mapping[str, Sequence[str]], pace: float = 1.0) -> dict[str, Iterator[Step]]:
    """Return the steps of each track that has a fault."""
    return {track: steps(seed, track, faults, pace) for track, faults in tracks.items() if faults}
