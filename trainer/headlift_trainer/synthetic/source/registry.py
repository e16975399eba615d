"""Opens the sources that an asset folder allows, by name or by seed."""

from __future__ import annotations

from pathlib import Path

from headlift.errors import NotFoundError
from headlift_trainer.synthetic.source.interface import HeadSource
from headlift_trainer.synthetic.source.seeds import source_of


class Sources:
    """The sources that an asset folder allows, each opened when first asked for.

    Args:
        root: The asset folder; None leaves the procedural source alone.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._open: dict[str, HeadSource] = {}

    def __getitem__(self, seed: int) -> HeadSource:
        """The source of a seed.

        Raises:
            NotFoundError: It needs an asset folder and there is none, or the folder lacks a file.
        """
        name = source_of(seed)
        if name not in self._open:
            self._open[name] = open_source(name, self._root)
        return self._open[name]


def open_source(name: str, root: Path | None) -> HeadSource:
    """The source of that name; imports are late because each brings its own machinery.

    Raises:
        NotFoundError: It needs an asset folder and `root` is None, or the folder lacks a file.
    """
    if name == "procedural":
        from headlift_trainer.synthetic.source.procedural import ProceduralSource

        return ProceduralSource()
    if root is None:
        raise NotFoundError(f"The source {name!r} needs an asset folder; name one with --assets, or use 'procedural'.")
    if name == "ict":
        from headlift_trainer.synthetic.source.ict import IctSource

        return IctSource(root)
    from headlift_trainer.synthetic.source.makehuman import MakeHumanSource

    return MakeHumanSource(root)
