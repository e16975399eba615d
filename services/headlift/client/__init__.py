"""The client SDK: ``HeadliftClient`` for ordinary code, ``AsyncHeadliftClient`` for asyncio.

    with HeadliftClient("localhost:50051") as client:
        head = client.create_head("me.jpg")
        client.render(head, [camera(yaw_deg=30)])[0].image().save("me30.png")
        client.export(head, "spz", path="me.spz")
        older = client.edit(head, prompt="an old man with a grey beard", strength=0.8).head
        batch = client.create_heads(["one.jpg", "two.jpg"])
        results = client.wait_for_batch(batch)

    HeadliftClient("heads.example:443", tenant="acme", credentials=Credentials(api_key=key, tls=True))

Refusals are raised as the classes of ``headlift.errors`` that the server raised.
"""

from __future__ import annotations

from headlift.client._async import AsyncHeadliftClient, AsyncLiveSession
from headlift.client._credentials import Credentials
from headlift.client._edits import Edited, Replayed, Segmented, style
from headlift.client._heads import Frame, camera, camera_from_matrices
from headlift.client._live import LiveDropped, LiveEvent, LiveHead, LiveRefused, LiveView
from headlift.client._pictures import RenderedPicture
from headlift.client._retry import RetryPolicy
from headlift.client._sync import HeadliftClient, LiveSession

__all__ = [
    "AsyncHeadliftClient",
    "AsyncLiveSession",
    "Credentials",
    "Edited",
    "Frame",
    "HeadliftClient",
    "LiveDropped",
    "LiveEvent",
    "LiveHead",
    "LiveRefused",
    "LiveSession",
    "LiveView",
    "RenderedPicture",
    "Replayed",
    "RetryPolicy",
    "Segmented",
    "camera",
    "camera_from_matrices",
    "style",
]
