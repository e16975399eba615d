"""What an edited head knows of itself: its map, its style, the camera of the map, and all edits since its origin."""

from __future__ import annotations

from dataclasses import dataclass

from headlift.codec import matrix, message_from_camera
from headlift.gateway.edits.maps import U8, map_message, parse_map, resize_map
from headlift.model.types import Cameras
from headlift.v1 import edit_pb2
from headlift.v1 import edit_service_pb2 as pb

PART, CODEC = "edit", "edit"  # where it lies below a stored head


@dataclass(frozen=True)
class EditState:
    """Stored with an edited head, so that nothing of it is lost with the head that it came from."""

    labels: U8  # [S, S] 0..18
    camera: Cameras  # of the map, C = 1, S x S
    style: edit_pb2.StyleEmbedding
    edits: list[edit_pb2.Edit]  # since the origin
    heads: list[str]  # that they led from; empty where there was none

    def message(self) -> pb.GetEditHistoryResponse:
        """As the API and the store have it."""
        return pb.GetEditHistoryResponse(
            edits=self.edits,
            heads=self.heads,
            map=map_message(self.labels),
            camera=message_from_camera(self.camera),
            style=self.style,
        )


def state_of(message: pb.GetEditHistoryResponse, side: int) -> EditState:
    """Inverse of ``EditState.message``, with a map of ``side`` pixels."""
    own = message.map.side_px
    labels = parse_map(message.map, own, field="map", may_keep=False)
    camera = matrix(message.camera, own, own).resized(side, side)
    return EditState(resize_map(labels, side), camera, message.style, list(message.edits), list(message.heads))
