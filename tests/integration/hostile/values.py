"""A hostile value, made together with what must become of it; nothing here asks the code that is tested."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Union


class Good(NamedTuple):
    """Bytes that fit; ``held`` is what the column must hold, as its kind reads it back."""

    data: bytes
    held: Any


class Bad(NamedTuple):
    """Bytes that don't fit, and words of which the reason must have one."""

    data: bytes
    words: tuple[str, ...]


#: Makes a value with the dice, for the database of that name.
Made = Callable[[random.Random, str], Union[Good, Bad]]


def bad(dice: random.Random, by_word: Mapping[str, Sequence[bytes]]) -> Bad:
    """Choose from lists of bytes, each under the words (parted by |) of its reason."""
    words = dice.choice([word for word, values in by_word.items() for _ in values])
    return Bad(dice.choice(by_word[words]), tuple(words.split("|")))
