"""segment, edit, replay, history: label maps and styles of heads, through the client SDK."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift.commands.heads import FILES, PICTURES, download, suffix_value, write_file
from headlift.commands.session import (
    Subparsers,
    add_command,
    add_server_options,
    emit,
    head_dict,
    head_text,
    open_client,
)
from headlift.errors import InvalidInputError

if TYPE_CHECKING:
    from headlift.v1 import edit_pb2

# Colours of the 19 labels in the files that `segment` writes: for people; the labels are the palette's indices.
_PALETTE = (
    (0, 0, 0), (214, 160, 120), (240, 196, 160), (70, 110, 180), (200, 110, 90), (200, 140, 90), (110, 70, 40),
    (140, 90, 50), (60, 160, 220), (90, 190, 240), (250, 220, 120), (120, 20, 40), (230, 80, 110), (200, 50, 90),
    (90, 50, 120), (60, 220, 200), (60, 170, 80), (240, 240, 90), (200, 120, 220),
)  # fmt: skip


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(subparsers, "segment", "write what a head's portrait, or a picture, shows as a map", segment)
    parser.add_argument("source", metavar="HEAD|PICTURE", help="name of a head, or its last part; or a picture file")
    parser.add_argument("--out", required=True, metavar="MAP.png", help="palette PNG; its indices are the labels 0..18")
    parser.add_argument("--portrait", metavar="FILE.png", help="also write the crop that the map belongs to")
    add_server_options(parser)
    _register_edit(subparsers)
    parser = add_command(subparsers, "replay", "do the edits of a head to other heads or portraits", replay)
    parser.add_argument("source", metavar="HEAD", help="whose edits, from its origin on")
    parser.add_argument("targets", nargs="+", metavar="HEAD|PICTURE", help="whom they are done to")
    add_server_options(parser)
    parser = add_command(subparsers, "history", "list the edits between a head and its origin", history)
    parser.add_argument("head", help="name of the head, or its last part")
    add_server_options(parser)


def _register_edit(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "edit", "make a new head of a head by a map, words or a reference picture", edit)
    parser.add_argument("head", nargs="?", help="name of the head; without one, --map and a style make a person up")
    parser.add_argument("--prompt", metavar="WORDS", help='the style in words, such as "long red hair"')
    parser.add_argument("--style", metavar="HEAD|PICTURE", help="whose style to take: a stored head or a picture file")
    parser.add_argument("--mix", type=float, default=0.5, help="share of --style beside --prompt, 0..1 (default: 0.5)")
    parser.add_argument("--strength", type=float, metavar="S", help="how far to go from the head's own style, 0..1")
    parser.add_argument("--keep-map", action="store_true", help="let words for shapes (long, bald, hat) change no map")
    parser.add_argument("--map", metavar="MAP.png", help="the geometry: labels 0..18, 255 where it stays as it is")
    parser.add_argument(
        "--strokes", metavar="FILE.json", help="strokes over the head's map, as Strokes in the contract"
    )
    parser.add_argument("--out", metavar="FILE", help=f"also write {', '.join(FILES)}, or a picture from the front")
    add_server_options(parser)


def segment(args: argparse.Namespace) -> int:
    """``headlift segment``."""
    from PIL import Image

    from headlift.stages.preprocess.interfaces import CLASSES

    with open_client(args) as client:
        answer = client.segment(_head_or_picture(args.source), with_portrait=args.portrait is not None)
    picture = Image.fromarray(answer.labels)
    picture.putpalette([channel for color in _PALETTE for channel in color])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_file(Path(args.out), buffer.getvalue())
    if answer.portrait is not None:
        write_file(Path(args.portrait), answer.portrait.data)
    shares = {name: round(float((answer.labels == i).mean()), 4) for i, name in enumerate(CLASSES)}
    present = {name: share for name, share in shares.items() if share}
    record = {"path": args.out, "side_px": len(answer.labels), "origin": answer.origin, "shares": present}
    text = ", ".join(f"{name} {share:.1%}" for name, share in sorted(present.items(), key=lambda item: -item[1]))
    emit(args, record, f"wrote {args.out} ({answer.origin}): {text}")
    return 0


def edit(args: argparse.Namespace) -> int:
    """``headlift edit``."""
    kinds = PICTURES | FILES
    kind: Any = suffix_value(args.out, kinds) if args.out else None
    with open_client(args) as client:
        reference: Any = _head_or_picture(args.style) if args.style else None
        if isinstance(reference, str):
            reference = client.get_head(reference)
        edited = client.edit(
            args.head,
            prompt=args.prompt,
            reference=reference,
            mix=args.mix,
            map=args.map,
            strokes=_read_strokes(args.strokes) if args.strokes else None,
            strength=args.strength,
            keep_map=args.keep_map,
        )
        head = edited.head
        if args.out and kind in PICTURES.values():
            write_file(Path(args.out), client.render(head, format=kind)[0].data)
        elif args.out:
            download(args, client, head, Path(args.out))
    text = head_text(head)
    if edited.ignored_words:
        text += f"\n  not understood: {', '.join(edited.ignored_words)}"
    record = head_dict(head) | {"ignored_words": list(edited.ignored_words)}
    emit(args, record, text + (f"\n  wrote {args.out}" if args.out else ""))
    return 0


def replay(args: argparse.Namespace) -> int:
    """``headlift replay``; exit code 3 where a target failed."""
    with open_client(args) as client:
        answers = list(client.replay(args.source, [_head_or_picture(t) for t in args.targets], timeout_s=3600))
    targets, lines = [], []
    for target, answer in zip(args.targets, answers, strict=True):
        if answer.head is not None:
            targets.append({"target": target, "head": head_dict(answer.head)})
            lines.append(f"{target}: {answer.head.name}")
        else:
            assert answer.error is not None
            error = {"reason": answer.error.reason, "code": answer.error.code, "message": answer.error.message}
            targets.append({"target": target, "error": error})
            lines.append(f"{target}: {answer.error.message}")
    emit(args, {"targets": targets}, "\n".join(lines))
    return 3 if any(answer.error is not None for answer in answers) else 0


def history(args: argparse.Namespace) -> int:
    """``headlift history``."""
    from google.protobuf.json_format import MessageToDict

    with open_client(args) as client:
        lineage = client.edit_history(args.head)
    steps = [
        {"head": head, **MessageToDict(step, preserving_proto_field_name=True)}
        for head, step in zip(lineage.heads, lineage.edits, strict=True)
    ]
    lines = [f"{i}. {_describe(step)}" for i, step in enumerate(lineage.edits, 1)]
    emit(args, {"edits": steps}, "\n".join(lines) or "not edited")
    return 0


def _describe(edit: edit_pb2.Edit) -> str:
    """One edit for people."""
    geometry = edit.WhichOneof("geometry")
    shape = {"map": "a painted map", "strokes": f"{len(edit.strokes.strokes)} strokes", None: ""}[geometry]
    styles = [f'"{t.text}"' if t.text else "a reference" for t in edit.style.terms]
    return ", ".join(filter(None, [shape, " and ".join(styles)]))


def _head_or_picture(text: str) -> str | Path:
    """A file, where there is one of this name; else the name of a head."""
    path = Path(text)
    if path.is_file():
        return path
    if path.suffix:
        raise InvalidInputError(f"{text} is no file, and no name of a head; see `headlift list`.", field="source")
    return text


def _read_strokes(path: str) -> list[edit_pb2.Stroke]:
    from google.protobuf.json_format import Parse, ParseError

    from headlift.v1 import edit_pb2

    try:
        message = Parse(Path(path).read_text("utf-8"), edit_pb2.Strokes())
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be read: {error.strerror}.", reason="NO_FILE", field="strokes"
        ) from None
    except (ParseError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f'{path} holds no strokes; write {{"strokes": [{{"label": 14, "points": [4096, 900], "radius": 300}}]}}: '
            f"{error}",
            field="strokes",
        ) from None
    return list(message.strokes)
