"""The client SDK: ``HeadliftClient`` for ordinary code, ``AsyncHeadliftClient`` for asyncio.

    with HeadliftClient("localhost:50051") as client:
        head = client.create_head("me.jpg")
        client.render(head, [camera(yaw_deg=30)])[0].image().save("me30.png")
        client.export(head, "spz", path="me.spz")

Refusals are raised as the classes of ``headlift.errors`` that the server raised.
"""

from __future__ import annotations

from headlift.serving.client.asynchronous import AsyncHeadliftClient
from headlift.serving.client.blocking import HeadliftClient
from headlift.serving.client.requests import Frame, RenderedPicture, camera, camera_from_matrices
from headlift.serving.client.retry import RetryPolicy

__all__ = [
    "AsyncHeadliftClient",
    "Frame",
    "HeadliftClient",
    "RenderedPicture",
    "RetryPolicy",
    "camera",
    "camera_from_matrices",
]
