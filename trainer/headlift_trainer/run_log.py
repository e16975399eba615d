"""The log of a run of several steps, in one file that survives interruptions: what is done, hours, figures.

`steps.json` holds the plan, which must not change between calls, and for every step the wall time over all attempts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headlift.errors import ConflictError, FormatError

_HEARTBEAT_S = 20.0  # how often the time is written down while a step goes on


@dataclass
class Step:
    """One step over all attempts."""

    name: str
    hours: float = 0.0  # wall time
    attempts: int = 0
    done: bool = False
    figures: dict[str, Any] = field(default_factory=dict)


class RunLog:
    """The steps of a folder.

    Args:
        path: The file; it is made with the first step.
        plan: What makes the result, as JSON values.

    Raises:
        ConflictError: The file is of another plan.
        FormatError: The file cannot be read.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self._path, self._plan = path, json.loads(json.dumps(plan))
        self._steps: dict[str, Step] = {}
        self._began = self._written_at = 0.0
        if path.exists():
            self._read()

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps.values())

    def __getitem__(self, name: str) -> Step:
        """A step that has begun."""
        return self._steps[name]

    def is_done(self, name: str) -> bool:
        """Whether nothing is left to do of a step."""
        return name in self._steps and self._steps[name].done

    @property
    def hours(self) -> float:
        """Of all steps together."""
        return sum(step.hours for step in self)

    @contextmanager
    def attempt(self, name: str) -> Iterator[Step]:
        """Time a step; it is done unless the block is left by an exception or sets `done` itself."""
        step = self._steps.setdefault(name, Step(name))
        before = step.hours
        step.attempts += 1
        self._began = self._written_at = time.monotonic()
        try:
            step.done = True
            yield step
        except BaseException:
            step.done = False
            raise
        finally:
            step.hours = before + (time.monotonic() - self._began) / 3600
            self._write()

    def heartbeat(self, step: Step) -> None:
        """Write the time down now and then, in case the process is killed; called from within an attempt."""
        now = time.monotonic()
        if now - self._written_at > _HEARTBEAT_S:
            step.hours += (now - self._written_at) / 3600
            self._written_at = now
            self._write(unfinished=step)

    def _read(self) -> None:
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            plan, steps = stored["plan"], {each["name"]: Step(**each) for each in stored["steps"]}
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self._path.name} is damaged; remove it to take the steps again.") from error
        changed = sorted(key for key in {*plan, *self._plan} if plan.get(key) != self._plan.get(key))
        if changed:
            changes = ", ".join(f"{key} {plan.get(key)!r} (now {self._plan.get(key)!r})" for key in changed)
            folder = self._path.parent.name
            raise ConflictError(f"{folder} was begun with {changes}; go on with that, or name a new folder.")
        self._steps = steps

    def _write(self, unfinished: Step | None = None) -> None:
        rows = [asdict(step) | ({"done": False} if step is unfinished else {}) for step in self]
        log = {"plan": self._plan, "hours": round(self.hours, 4), "steps": rows}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(log, indent=1), encoding="utf-8")
        temporary.replace(self._path)
