import pytest
from google.protobuf import descriptor_pb2, struct_pb2

from headlift.errors import NotFoundError, PermissionDeniedError
from headlift.serving.edge.auth import Caller, scope_of
from headlift.serving.edge.tenancy import check_own, tenant_of
from headlift.v1 import head_service_pb2 as pb

ACME = Caller("acme", frozenset({"read"}), "key:1")


def test_the_tenant_is_found_in_any_field_that_names_a_resource():
    assert tenant_of(pb.GetHeadRequest(name="tenants/acme/heads/h1")) == "acme"
    assert tenant_of(pb.CreateHeadRequest(parent="tenants/acme")) == "acme"
    assert tenant_of(pb.CreateHeadRequest()) == ""
    for nobody in ("tenants/", "tenants/{x}/heads/1", "tenants/" + "x" * 64, "acme"):
        assert tenant_of(pb.GetHeadRequest(name=nobody)) == ""
    # Any message: fields within fields, repeated ones and recursive ones too.
    nested = descriptor_pb2.FileDescriptorProto(dependency=["x", "tenants/deep/heads/1"])
    assert tenant_of(descriptor_pb2.FileDescriptorSet(file=[nested])) == "deep"
    recursive = struct_pb2.ListValue(values=[struct_pb2.Value(string_value="tenants/list")])
    assert tenant_of(recursive) == "list"


def test_a_caller_reaches_its_own_tenant_alone():
    check_own(pb.GetHeadRequest(name="tenants/acme/heads/h1"), ACME)
    check_own(pb.CreateHeadRequest(parent="tenants/acme"), ACME)
    check_own(pb.CreateHeadRequest(), ACME)
    for name in ("tenants/other/heads/h1", "tenants/acme2/heads/h1", "tenants/", "tenants/ACME/heads/h1"):
        with pytest.raises(NotFoundError):
            check_own(pb.GetHeadRequest(name=name), ACME)
    with pytest.raises(PermissionDeniedError):
        check_own(pb.ListHeadsRequest(parent="tenants/other"), ACME)


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("/headlift.v1.HeadService/GetHead", "read"),
        ("/headlift.v1.HeadService/ListHeads", "read"),
        ("/headlift.v1.HeadService/RenderHead", "read"),
        ("/headlift.v1.HeadService/RenderOrbit", "read"),
        ("/headlift.v1.HeadService/ExportHead", "read"),
        ("/headlift.v1.HeadService/CreateHead", "write"),
        ("/headlift.v1.HeadService/DeleteHead", "write"),
        ("/headlift.v1.HeadService/Live", "write"),
        ("/headlift.v1.HeadService/Anything", "write"),
        ("/headlift.v1.EditService/SegmentPortrait", "read"),
        ("/headlift.v1.EditService/EmbedStyle", "read"),
        ("/headlift.v1.EditService/GetEditHistory", "read"),
        ("/headlift.v1.EditService/EditHead", "write"),
        ("/headlift.v1.EditService/ReplayEdits", "write"),
        ("/headlift.v1.EncodeService/Encode", "stages"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "reflection"),
    ],
)
def test_every_method_needs_a_scope(method, scope):
    assert scope_of(method) == scope


def test_admin_has_every_scope_of_its_own_tenant():
    Caller("acme", frozenset({"admin"}), "key:1").require("stages")
    with pytest.raises(PermissionDeniedError, match="write"):
        ACME.require("write")
