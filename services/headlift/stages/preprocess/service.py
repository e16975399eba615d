"""headlift.v1.PreprocessService: decode, compute, reply."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from headlift.codec import message_from_portrait
from headlift.errors import InvalidInputError
from headlift.stages.preprocess.messages import quality_message
from headlift.stages.preprocess.stage import Preprocess, PreprocessOptions, SeveralFaces
from headlift.v1 import head_service_pb2
from headlift.v1 import preprocess_service_pb2 as pb

_SEVERAL = {
    head_service_pb2.SEVERAL_FACES_UNSPECIFIED: SeveralFaces.LARGEST,
    head_service_pb2.SEVERAL_FACES_LARGEST: SeveralFaces.LARGEST,
    head_service_pb2.SEVERAL_FACES_REFUSE: SeveralFaces.REFUSE,
}


class PreprocessAnswer:
    """The stage, message to message; blocks."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess

    def __call__(self, request: pb.PreprocessRequest, token: Any) -> pb.PreprocessResponse:
        """Look at one picture; raises what the stage raises."""
        begin = time.perf_counter()
        result = self._preprocess(request.picture, options_from_message(request))
        portrait, quality = message_from_portrait(result.portrait), quality_message(result)
        return pb.PreprocessResponse(
            portrait=portrait, quality=quality, duration_ms=(time.perf_counter() - begin) * 1e3
        )


class PreprocessServicer:
    """The RPCs of PreprocessService, over the stage here or elsewhere."""

    def __init__(self, call: Callable[[pb.PreprocessRequest], Awaitable[pb.PreprocessResponse]]) -> None:
        self._call = call

    async def Preprocess(self, request: pb.PreprocessRequest, context: object) -> pb.PreprocessResponse:
        """See the contract."""
        return await self._call(request)


def options_from_message(request: pb.PreprocessRequest) -> PreprocessOptions:
    """What a caller chose. InvalidInputError: an unknown value of several_faces."""
    if request.several_faces not in _SEVERAL:
        raise InvalidInputError(
            f"several_faces is {request.several_faces}, which this server does not know; "
            f"it knows {min(_SEVERAL)}..{max(_SEVERAL)}.",
            field="several_faces",
        )
    index = request.face_index if request.HasField("face_index") else None
    return PreprocessOptions(_SEVERAL[request.several_faces], index)


def request_message(picture: bytes, options: PreprocessOptions) -> pb.PreprocessRequest:
    """Inverse of ``options_from_message``, with the picture."""
    several = next(k for k, v in _SEVERAL.items() if v is options.several_faces and k)
    return pb.PreprocessRequest(picture=picture, several_faces=several, face_index=options.face_index)
