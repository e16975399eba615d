"""Every setting of Headlift, and the only place that reads the environment.

``Settings.from_env()`` reads ``HEADLIFT_<FIELD>`` for every field below; ``headlift settings`` prints the table.
Libraries take values from here as arguments and never look at the environment themselves.
"""

# ruff: noqa: RUF009 -- _setting() is field() with a description

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from headlift.errors import InvalidInputError

PREFIX = "HEADLIFT_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# HEADLIFT_ names of other programs: the shell scripts in deploy/ and the test suite.
_ELSEWHERE = {"HEADLIFT_VENV", "HEADLIFT_PYTHON", "HEADLIFT_TORCH_INDEX", "HEADLIFT_PROTO_BASE"}


def calm_threads() -> None:
    """Let OpenMP's threads sleep while they wait. Call before torch is loaded.

    By default they spin, which on cores shared with anything else makes a step several times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _setting(
    default: Any, about: str, *, low: float = -math.inf, high: float = math.inf, one_of: tuple[str, ...] = ()
) -> Any:
    """A documented field with its limits."""
    return field(default=default, metadata={"about": about, "low": low, "high": high, "one_of": one_of})


@dataclass(frozen=True)
class Settings:
    """What can be set; frozen, so that a running server cannot drift from what it was started with.

    Raises:
        InvalidInputError: A value is out of range; the message names the variable, the value and the limit.
    """

    # Serving
    host: str = _setting("127.0.0.1", "Address that the server listens on.")
    port: int = _setting(50051, "Port that the server listens on; 0 takes a free one.", low=0, high=65535)
    data_dir: Path = _setting(Path.home() / ".local/share/headlift", "Directory of the file store.")
    drain_s: float = _setting(20.0, "Seconds that running requests get to finish at shutdown.", low=0, high=3600)
    log_level: str = _setting(
        "INFO", "Least severe log line that is written.", one_of=("DEBUG", "INFO", "WARNING", "ERROR")
    )

    # Computing
    weights: Path | None = _setting(None, "Checkpoint (safetensors); empty takes the mini that is shipped.")
    device: str = _setting("auto", "Where networks run: auto, cpu, cuda or cuda:N.")
    rasterizer: str = _setting("auto", "Splatting backend.", one_of=("auto", "gsplat", "native", "reference"))
    threads: int = _setting(0, "Threads of one network; 0 leaves it to torch.", low=0, high=1024)
    crop_size: int = _setting(0, "Side of the portrait crop, pixels; 0 takes the network's own.", low=0, high=2048)
    refine_steps: int = _setting(100, "Refinement steps where a request does not say.", low=0, high=1000)
    refine_size: int = _setting(192, "Side of the pictures that refinement compares, pixels.", low=16, high=2048)
    refine_final_size: int = _setting(384, "The same in its last steps, pixels.", low=16, high=2048)

    # Limits
    picture_bytes_max: int = _setting(32 << 20, "Largest portrait, bytes.", low=1024, high=56 << 20)
    picture_pixels_max: int = _setting(64_000_000, "Largest portrait, pixels.", low=4096, high=1 << 30)
    decode_s_max: float = _setting(10.0, "Longest time to unpack a portrait, seconds.", low=0.1, high=600)
    create_workers: int = _setting(1, "Heads that are made at the same time.", low=1, high=256)
    create_queue: int = _setting(16, "Heads that may wait for a worker; more are refused.", low=0, high=100_000)
    render_workers: int = _setting(2, "Pictures that are taken at the same time.", low=1, high=256)
    render_queue: int = _setting(
        64, "Picture requests that may wait for a worker; more are refused.", low=0, high=100_000
    )
    deadline_s: float = _setting(120.0, "Longest time that any request may take, seconds.", low=0.1, high=86_400)

    # Keeping
    cache_stages: bool = _setting(True, "Keep what each stage computed, to answer the same portrait at once.")
    memory_heads_bytes: int = _setting(256 << 20, "Memory for unpacked heads that were used lately, bytes.", low=0)
    request_id_hours: float = _setting(24.0, "Hours that a request_id is remembered.", low=0, high=8760)

    # The client
    server: str = _setting("", "HOST:PORT of the server that commands talk to; empty starts one inside the command.")
    tenant: str = _setting("local", "Tenant that commands act for.")
    timeout_s: float = _setting(120.0, "Longest wait of a command for one answer, seconds.", low=0.1, high=86_400)

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f, getattr(self, f.name))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the environment; ``overrides`` that are not None win over it.

        Raises:
            InvalidInputError: A variable cannot be read, is out of range, or is no setting at all (a typing error).
        """
        environ = os.environ if environ is None else environ
        names = {variable(f): f for f in fields(cls)}
        unknown = sorted(k for k in environ if k.startswith(PREFIX) and k not in names and k not in _ELSEWHERE)
        if unknown:
            raise InvalidInputError(
                f"{unknown[0]} is no setting of Headlift; `headlift settings` lists those there are."
            )
        types_ = typing.get_type_hints(cls)
        values = {f.name: _parse(f, types_[f.name], environ[name]) for name, f in names.items() if name in environ}
        return cls(**(values | {k: v for k, v in overrides.items() if v is not None}))


def variable(f: Field[Any]) -> str:
    """Name of the environment variable of a field."""
    return PREFIX + f.name.upper()


def table(settings: Settings) -> list[dict[str, str]]:
    """One row per setting: variable, type, value, default, range and what it is about."""
    return [
        {
            "variable": variable(f),
            "type": _type_name(typing.get_type_hints(Settings)[f.name]),
            "value": _show(getattr(settings, f.name)),
            "default": _show(f.default),
            "range": _range(f),
            "about": f.metadata["about"],
        }
        for f in fields(settings)
    ]


def _parse(f: Field[Any], kind: Any, text: str) -> Any:
    """The value that ``text`` stands for; an empty text is the default."""
    text = text.strip()
    if not text:
        return f.default
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise InvalidInputError(f"{variable(f)} is {text!r}; write one of {', '.join(_TRUE + _FALSE)}.")
        return text.lower() in _TRUE
    if kind is Path:
        return Path(text).expanduser()
    try:
        return kind(text)
    except ValueError:
        raise InvalidInputError(f"{variable(f)} is {text!r}, which is no {_type_name(kind)}.") from None


def _check(f: Field[Any], value: Any) -> None:
    """Hold a value against the limits of its field."""
    one_of = f.metadata["one_of"]
    if one_of and value not in one_of:
        raise InvalidInputError(f"{variable(f)} is {value!r}; it must be one of {', '.join(one_of)}.")
    if isinstance(value, (int, float)) and not f.metadata["low"] <= value <= f.metadata["high"]:
        raise InvalidInputError(f"{variable(f)} is {value}; it must lie in {_range(f)}.")


def _range(f: Field[Any]) -> str:
    low, high = f.metadata["low"], f.metadata["high"]
    if f.metadata["one_of"]:
        return " | ".join(f.metadata["one_of"])
    if math.isinf(low) and math.isinf(high):
        return ""
    return f"{low:g} or more" if math.isinf(high) else f"{low:.10g}..{high:.10g}"


def _type_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
    return {int: "whole number", float: "number", str: "text", bool: "yes or no", Path: "path"}[kind]


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Path):
        # The table goes into documentation: no home directory of this machine in it.
        return str(value).replace(str(Path.home()), "~", 1)
    return str(value)
