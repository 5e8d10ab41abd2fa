"""Sets of CPUs or cores as text: the kernel's lists, and masks."""

from __future__ import annotations

from collections.abc import Sequence


def cpu_list(text: str) -> list[int]:
    """The members of a kernel list such as 0-3,8,10-11. Raises ValueError."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def ranges(numbers: Sequence[int]) -> str:
    """0,1,2,5 as 0-2,5."""
    parts: list[str] = []
    start = end = None
    for number in sorted(numbers):
        if start is None or end is None:
            start = end = number
        elif number == end + 1:
            end = number
        else:
            parts.append(f"{start}-{end}" if end > start else f"{start}")
            start = end = number
    if start is not None and end is not None:
        parts.append(f"{start}-{end}" if end > start else f"{start}")
    return ",".join(parts)


def hexmask(pus: Sequence[int]) -> str:
    """OS ids as one hexadecimal number."""
    return hex(sum(1 << pu for pu in set(pus)))


def brief(numbers: Sequence[int]) -> str:
    """For people: 0,2,4,6,36 as 0-6:2,36, which is every second one from 0 to 6, and 36."""
    left = sorted(set(numbers))
    parts: list[str] = []
    while left:
        length = step = 1
        if len(left) > 1:
            step = left[1] - left[0]
            while length < len(left) and left[length] == left[0] + length * step:
                length += 1
        if length == 2 and step > 1:  # two numbers are no pattern
            length = 1
        low, high = left[0], left[length - 1]
        parts.append(f"{low}" if length == 1 else f"{low}-{high}" + (f":{step}" if step > 1 else ""))
        left = left[length:]
    return ",".join(parts)
