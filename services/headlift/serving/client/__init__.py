"""The client SDK: ``HeadliftClient`` for ordinary code, ``AsyncHeadliftClient`` for asyncio.

    with HeadliftClient("localhost:50051") as client:
        head = client.create_head("me.jpg")
        client.render(head, [camera(yaw_deg=30)])[0].image().save("me30.png")
        client.export(head, "spz", path="me.spz")
        older = client.edit(head, prompt="an old man with a grey beard", strength=0.8).head

    HeadliftClient("heads.example:443", tenant="acme", credentials=Credentials(api_key=key, tls=True))

Refusals are raised as the classes of ``headlift.errors`` that the server raised.
"""

from __future__ import annotations

from headlift.serving.client.asynchronous import AsyncHeadliftClient
from headlift.serving.client.blocking import HeadliftClient
from headlift.serving.client.credentials import Credentials
from headlift.serving.client.edits import Edited, Replayed, Segmented, style
from headlift.serving.client.requests import Frame, RenderedPicture, camera, camera_from_matrices
from headlift.serving.client.retry import RetryPolicy

__all__ = [
    "AsyncHeadliftClient",
    "Credentials",
    "Edited",
    "Frame",
    "HeadliftClient",
    "RenderedPicture",
    "Replayed",
    "RetryPolicy",
    "Segmented",
    "camera",
    "camera_from_matrices",
    "style",
]
