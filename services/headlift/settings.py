"""Every setting of Headlift, and the only place that reads the environment.

``Settings.from_env()`` reads ``HEADLIFT_<FIELD>`` for every field below; ``headlift settings`` prints the table.
Libraries take values from here as arguments and never look at the environment themselves.
"""

# ruff: noqa: RUF009 -- _setting() is field() with a description

from __future__ import annotations

import math
import os
import secrets
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from headlift.errors import InvalidInputError
from headlift.limits import REFINE_STEPS_MAX, SIDE_MAX, SIDE_MIN

PREFIX = "HEADLIFT_"
_HIDDEN = "(set)"  # stands for a secret in tables
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# HEADLIFT_ names of other programs: the shell scripts in deploy/ and the test suite.
_OTHER_VARIABLES = {"HEADLIFT_VENV", "HEADLIFT_PYTHON", "HEADLIFT_TORCH_INDEX", "HEADLIFT_PROTO_BASE"}


def calm_threads() -> None:
    """Let OpenMP's threads sleep while they wait. Call before torch is loaded.

    By default they spin, which on cores shared with anything else makes a step several times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def no_telemetry() -> None:
    """Keep Ray from sending usage statistics to its makers. Call before Ray is started."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def machine_places() -> dict[str, str]:
    """Settings by field name that are each machine's own matter, where its environment has them: images say in theirs
    where pretrained models lie, and who configures replicas does not know."""
    name = f"{PREFIX}MODELS_DIR"
    return {"models_dir": os.environ[name]} if name in os.environ else {}


@contextmanager
def local_ray_environment() -> Iterator[None]:
    """Environment of a Ray that this process starts for itself, as long as the block; Ray's processes inherit it.

    Ray's own name for "never leave this machine" is that it may make no clusters, which it once was on Windows and
    macOS alone: every address is then 127.0.0.1. A token of its own keeps other users of the machine out; one that the
    environment brings is kept, and so is a mode of authentication.
    """
    changes = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Replicas would open HTTP and gRPC ports beside the edge, which is the only face.
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    }
    if not os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        changes["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    before = {name: os.environ.get(name) for name in (*changes, "RAY_AUTH_MODE")}  # Ray itself sets the mode
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def child_environment(**changes: str) -> dict[str, str]:
    """Environment of a process that a command starts: this one's, with settings changed by field name.

    Raises:
        InvalidInputError: A change is no setting, or out of range.
    """
    environ = os.environ | {PREFIX + name.upper(): value for name, value in changes.items()}
    Settings.from_env(environ)
    return environ


def _setting(
    default: Any,
    about: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    one_of: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A documented field with its limits; a secret one is never shown."""
    facts = {"about": about, "low": low, "high": high, "one_of": one_of, "secret": secret}
    return field(default=default, repr=not secret, metadata=facts)


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

    # The editor over HTTP
    web: bool = _setting(False, "Whether the editor is served over HTTP too.")
    web_host: str = _setting("127.0.0.1", "Address that the editor listens on.")
    web_port: int = _setting(8080, "Port of the editor; 0 takes a free one.", low=0, high=65535)
    web_names: str = _setting("", "Further names that browsers know the editor by, HOST[:PORT], separated by commas.")

    # Monitoring
    log_format: str = _setting(
        "text", "Form of log lines: for people, or one JSON object each.", one_of=("text", "json")
    )
    metrics_port: int = _setting(0, "Port where Prometheus fetches metrics over HTTP; 0: none.", low=0, high=65535)
    metrics_host: str = _setting("127.0.0.1", "Address of that port; whoever reaches it may read the metrics.")
    otlp_endpoint: str = _setting("", "OTLP collector for traces, http(s)://HOST:PORT (gRPC); empty traces nothing.")
    trace_sample_ratio: float = _setting(
        1.0, "Share of traces that are kept, of those that begin here; callers decide about theirs.", low=0, high=1
    )

    # The edge: transport
    tls_cert: Path | None = _setting(None, "TLS certificate chain of the server, PEM; empty serves in the clear.")
    tls_key: Path | None = _setting(None, "Private key of the TLS certificate, PEM, not encrypted.")
    tls_client_ca: Path | None = _setting(
        None, "Who signs the certificates of callers, PEM; given, callers must show one (mTLS)."
    )
    keepalive_s: float = _setting(60.0, "Seconds between two pings of a silent connection; 0: none.", low=0)
    ping_interval_s_min: float = _setting(
        5.0, "Seconds between two pings of a silent client, at least; who pings faster is thrown out.", low=0, high=300
    )
    connection_idle_s: float = _setting(0.0, "Seconds after which an unused connection is closed; 0: never.", low=0)
    connection_age_s: float = _setting(
        0.0, "Seconds after which a connection is told to move on, which spreads load again; 0: never.", low=0
    )
    connection_grace_s: float = _setting(600.0, "Seconds that its running calls then get to finish.", low=0)
    stream_idle_s: float = _setting(
        600.0, "Longest silence in both directions on a stream of requests, seconds.", low=0.1, high=86_400
    )
    calls_max: int = _setting(1024, "Calls that one server takes at a time; more are refused.", low=1, high=1_000_000)

    # The edge: who may call
    auth: str = _setting("none", "Credentials that callers must show.", one_of=("none", "keys", "jwt", "both"))
    keys_file: Path | None = _setting(
        None, "File with the hashes of API keys, see `headlift keys`; empty takes .keys.json in data_dir."
    )
    jwt_keys: Path | None = _setting(
        None, "What tokens are checked with: a PEM public key, a JWKS document or a shared secret."
    )
    jwt_issuer: str = _setting("", "Issuer that tokens must name.")
    jwt_audience: str = _setting("", "Audience that tokens must name.")
    jwt_leeway_s: float = _setting(10.0, "How far issuer's and server's clocks may differ, seconds.", low=0, high=600)
    jwt_tenant_claim: str = _setting("tenant", "Claim that names the tenant.")
    jwt_scope_claim: str = _setting("scope", "Claim with the scopes: read, write, stages, reflection, admin.")
    reflection: str = _setting(
        "auth", "Who may list the API: nobody, all callers, or those with the scope.", one_of=("off", "on", "auth")
    )

    # The edge: what one tenant may ask for, in all servers together where there is Redis; 0 is no limit
    limit_requests_per_s: float = _setting(0.0, "Requests of one tenant a second.", low=0)
    limit_creates_per_min: float = _setting(0.0, "Heads that one tenant may make a minute.", low=0)
    limit_bytes_per_min: float = _setting(0.0, "Bytes that one tenant may send a minute.", low=0)
    limit_concurrent_calls: int = _setting(0, "Calls of one tenant at the same time.", low=0)
    limit_heads: int = _setting(0, "Heads that one tenant may have stored.", low=0)

    # Computing
    weights: Path | None = _setting(None, "Checkpoint (safetensors); empty takes the mini that is shipped.")
    backbone_weights: Path | None = _setting(
        None, "DINOv2's file (.pth or safetensors), for checkpoints that read a frozen backbone: base, light, light_s."
    )
    edit_weights: Path | None = _setting(
        None, "Weights of the editing network (safetensors); empty takes those that are shipped, where they are."
    )
    clip_weights: Path | None = _setting(
        None, "open_clip's weights (safetensors), for editing networks that take their styles from it."
    )
    device: str = _setting("auto", "Where networks run: auto, cpu, cuda or cuda:N.")
    rasterizer: str = _setting("auto", "Splatting backend.", one_of=("auto", "gsplat", "native", "reference"))
    precision: str = _setting(
        "highest",
        "Precision of float32 matrix products, as torch names it: on a GPU high is TF32, medium bfloat16.",
        one_of=("highest", "high", "medium"),
    )
    cuda_graphs: bool = _setting(False, "Sharpen by CUDA graphs: memory for each size of pictures, less to launch.")
    threads: int = _setting(0, "Threads of one network; 0 leaves it to torch.", low=0, high=1024)
    crop_size: int = _setting(0, "Side of the portrait crop, pixels; 0 takes the network's own.", low=0, high=SIDE_MAX)
    preprocess: str = _setting(
        "auto",
        "What finds, crops and mattes heads; auto is learned where the checkpoint has a trained HeadNet.",
        one_of=("auto", "classical", "learned"),
    )
    parsing_weights: Path | None = _setting(None, "Face parsing of facer's (TorchScript) in HeadNet's place.")
    matting_weights: Path | None = _setting(None, "MODNet or Robust Video Matting (TorchScript) in HeadNet's place.")
    models_dir: Path | None = _setting(
        None, "Folder of `headlift models install`; empty takes ~/.local/share/headlift/models."
    )
    models: str = _setting("auto", "Whether installed models are used for heads.", one_of=("auto", "off"))
    refine_steps: int = _setting(100, "Refinement steps where a request does not say.", low=0, high=REFINE_STEPS_MAX)
    refine_size: int = _setting(
        192, "Side of the pictures that refinement compares, pixels.", low=SIDE_MIN, high=SIDE_MAX
    )
    refine_final_size: int = _setting(384, "The same in its last steps, pixels.", low=SIDE_MIN, high=SIDE_MAX)

    # Where stages run
    runtime: str = _setting("embedded", "Stages in the server's process, or in Ray.", one_of=("embedded", "ray"))
    topology: str = _setting(
        "fused", "Deployments in Ray: three between whole artefacts, or one per stage.", one_of=("fused", "split")
    )
    ray_address: str = _setting("", "Ray cluster to use: HOST:PORT, auto, or ray://...; empty starts one here.")
    ray_node_ip: str = _setting("", "This machine's address in that cluster; empty lets Ray guess, which may fail.")
    stage_services: bool = _setting(True, "Serve the five stages as gRPC services of their own too.")

    # Limits
    picture_bytes_max: int = _setting(32 << 20, "Largest portrait, bytes.", low=1024, high=56 << 20)
    picture_pixels_max: int = _setting(64_000_000, "Largest portrait, pixels.", low=4096, high=1 << 30)
    decode_s_max: float = _setting(10.0, "Longest time to unpack a portrait, seconds.", low=0.1, high=600)
    create_workers: int = _setting(
        0, "Heads that one server makes at the same time; 0: 1, or 32 where Ray makes them.", low=0, high=256
    )
    create_queue: int = _setting(16, "Heads that may wait for a worker; more are refused.", low=0, high=100_000)
    render_workers: int = _setting(
        0, "Pictures that one server takes at the same time; 0: 2, or 64 where Ray takes them.", low=0, high=256
    )
    render_queue: int = _setting(
        64, "Picture requests that may wait for a worker; more are refused.", low=0, high=100_000
    )
    deadline_s: float = _setting(120.0, "Longest time that any request may take, seconds.", low=0.1, high=86_400)

    # Caching and retention
    cache_stages: bool = _setting(True, "Keep what each stage computed, to answer the same portrait at once.")
    memory_heads_bytes: int = _setting(256 << 20, "Memory for unpacked heads that were used lately, bytes.", low=0)
    batch_in_flight: int = _setting(2, "Portraits of one batch that are worked on at a time.", low=1, high=1024)
    batch_operations: int = _setting(8, "Batches of one tenant that may go on at a time.", low=1, high=100_000)
    request_id_hours: float = _setting(24.0, "Hours that a request_id is remembered.", low=0, high=8760)

    derived_days: float = _setting(
        30.0, "Days that what stages computed is kept; 0 keeps it as long as the head.", low=0, high=36_500
    )
    heads_days: float = _setting(0.0, "Days that a head is kept; 0 keeps it until it is deleted.", low=0, high=36_500)
    retention_file: Path | None = _setting(
        None, 'JSON file with other days for some tenants: {"acme": {"derived_days": 1, "heads_days": 90}}.'
    )
    sweep_minutes: float = _setting(60.0, "Minutes between two removals of what is too old.", low=0.01, high=10_080)

    # The hot tier: Redis in front of files or S3
    redis_url: str = _setting(
        "", "Redis as redis://[USER:PASSWORD@]HOST:PORT/DB, or rediss:// for TLS; empty uses none.", secret=True
    )
    redis_timeout_ms: int = _setting(100, "Longest wait for Redis before doing without, ms.", low=5, high=10_000)
    hot_bytes: int = _setting(1 << 30, "Most bytes of blobs in Redis; the least recently used go first.", low=0)
    hot_tenant_bytes: int = _setting(0, "The same for one tenant; 0 sets no limit of its own.", low=0)
    hot_hours: float = _setting(24.0, "Hours that a blob stays in Redis after it was written.", low=0.001, high=8760)
    cache_renders: bool = _setting(True, "Keep rendered pictures in Redis, where there is one.")
    cache_renders_bytes: int = _setting(4 << 20, "Largest answer with pictures that is kept, bytes.", low=0)

    # The durable tier on S3 instead of files
    s3_bucket: str = _setting("", "Bucket for heads; made where missing. Empty keeps them in data_dir.")
    s3_part_mib: int = _setting(16, "Size above which a blob goes to S3 in parts, and of one, MiB.", low=5, high=5120)
    s3_timeout_s: float = _setting(10.0, "Longest wait for one answer of the S3 server, seconds.", low=0.1, high=600)
    s3_encryption: str = _setting(
        "none", "Encryption that the S3 server is asked for.", one_of=("none", "sse-s3", "sse-kms")
    )
    s3_kms_key: str = _setting("", "Key id for sse-kms.")

    # The S3 server, for heads and for checkpoints at s3://bucket/prefix
    s3_endpoint: str = _setting("", "S3 server as http(s)://HOST:PORT; https where no scheme is given.")
    s3_access_key: str = _setting("", "Access key of the S3 server.")
    s3_secret_key: str = _setting("", "Secret key of the S3 server.", secret=True)
    s3_region: str = _setting("us-east-1", "Region of the S3 server.")

    # The client
    server: str = _setting("", "HOST:PORT of the server that commands talk to; empty starts one inside the command.")
    tenant: str = _setting("local", "Tenant that commands act for.")
    api_key: str = _setting("", "API key or token that commands show.", secret=True)
    server_tls: bool = _setting(False, "Whether commands talk TLS to the server; server_ca implies it.")
    server_ca: Path | None = _setting(None, "Who signed the server's certificate, PEM; empty trusts the usual ones.")
    client_cert: Path | None = _setting(None, "Certificate chain that commands show (mTLS), PEM.")
    client_key: Path | None = _setting(None, "Private key of client_cert, PEM.")
    timeout_s: float = _setting(120.0, "Longest wait of a command for one answer, seconds.", low=0.1, high=86_400)

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f, getattr(self, f.name))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings by field name, as YAML and JSON give them; others are left at their defaults.

        Raises:
            InvalidInputError: As ``from_env``.
        """
        return cls.from_env({PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None})

    def changed(self) -> dict[str, str | int | float | bool]:
        """What differs from the defaults, for ``from_mapping``; secrets are left out, and paths are made absolute."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata["secret"]}
        defaults = {f.name: f.default for f in fields(self)}
        return {
            name: str(value.expanduser().absolute()) if isinstance(value, Path) else value
            for name, value in values.items()
            if value != defaults[name]
        }

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the environment; ``overrides`` that are not None win over it.

        Raises:
            InvalidInputError: A variable cannot be read, is out of range, or is no setting at all (a typing error).
        """
        environ = os.environ if environ is None else environ
        names = {variable(f): f for f in fields(cls)}
        unknown = sorted(k for k in environ if k.startswith(PREFIX) and k not in names and k not in _OTHER_VARIABLES)
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
            "value": _HIDDEN
            if f.metadata["secret"] and getattr(settings, f.name)
            else _show(getattr(settings, f.name)),
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
