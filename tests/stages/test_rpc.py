import asyncio
from types import SimpleNamespace

import pytest

from headlift.errors import InvalidInputError
from headlift.media.pictures import RenderOptions
from headlift.stages.preprocess import PreprocessOptions, SeveralFaces
from headlift.stages.rpc import (
    STAGE_RPCS,
    StageHandlers,
    StageServicer,
    message_from_preprocess_options,
    message_from_render_options,
    preprocess_options_from_message,
    render_options_from_message,
)
from headlift.v1 import picture_pb2, preprocess_service_pb2


@pytest.mark.parametrize(
    "options",
    [RenderOptions(), RenderOptions(64, 48, "webp", 70, alpha=True, sharpen=False), RenderOptions(sharpen=True)],
)
def test_render_options_survive_their_message(options):
    assert render_options_from_message(message_from_render_options(options)) == options


@pytest.mark.parametrize("field", ["format", "sharpening"])
def test_enum_values_of_a_later_contract_are_refused_by_name(field):
    with pytest.raises(InvalidInputError) as caught:
        render_options_from_message(picture_pb2.PictureOptions(**{field: 99}))
    assert caught.value.field == f"picture.{field}"


@pytest.mark.parametrize(
    "options",
    [
        PreprocessOptions(),
        PreprocessOptions(SeveralFaces.REFUSE, 0),
        PreprocessOptions(near=(0.002, 0.0, -0.3, 0.0, 0.002, 0.1)),
    ],
)
def test_preprocess_options_survive_their_message(options):
    message = message_from_preprocess_options(b"picture", options)
    assert (message.picture, preprocess_options_from_message(message)) == (b"picture", options)


def test_every_stage_has_one_rpc_of_its_own_types():
    assert set(STAGE_RPCS) == set(StageHandlers.__dataclass_fields__)
    for rpc in STAGE_RPCS.values():
        (method,) = rpc.service.methods
        assert (method.input_type, method.output_type) == (rpc.request.DESCRIPTOR, rpc.response.DESCRIPTOR)


def test_one_servicer_answers_under_the_name_of_each_rpc():
    async def call(request):
        return request.picture + b"!"

    servicer = StageServicer(STAGE_RPCS["preprocess"], call)
    request = preprocess_service_pb2.PreprocessRequest(picture=b"p")
    assert asyncio.run(servicer.Preprocess(request, SimpleNamespace())) == b"p!"
    assert not hasattr(servicer, "Render")


def test_head_keys_of_one_tenant_are_of_no_use_to_another():
    async def call(request):
        return request.head_key

    rpc = STAGE_RPCS["render"]
    servicer = StageServicer(rpc, call)

    def key(tenant, head_key="k"):
        context = SimpleNamespace(caller=SimpleNamespace(tenant=tenant))
        return asyncio.run(servicer.Render(rpc.request(head_key=head_key), context))

    assert key("a") != key("b")
    assert key("a") == key("a")
    assert key("a", "") == ""  # none stays none
