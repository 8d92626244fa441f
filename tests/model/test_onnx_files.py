"""The reader of external data names sees at least what protobuf itself sees, and garbage gives a typed error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from emo_rt import Bundle
from emo_rt.errors import BundleIntegrityError
from emo_rt.model.onnx_files import external_locations, renamed_locations

quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def external_tensor(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=location, data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse(location: str) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=external_tensor(location), indices=external_tensor(f"{location}.indices"))


def in_attribute(**content: Any) -> onnx.ModelProto:
    model = onnx.ModelProto()
    attribute = model.graph.node.add(op_type="Constant").attribute.add(name="value")
    for name, value in content.items():
        field = getattr(attribute, name)
        field.extend(value) if isinstance(value, list) else field.CopyFrom(value)
    return model


def graph_with(location: str) -> onnx.GraphProto:
    return onnx.GraphProto(initializer=[external_tensor(location)])


def in_training() -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.training_info.add(initialization=graph_with("initial.bin"), algorithm=graph_with("algorithm.bin"))
    return model


def in_function() -> onnx.ModelProto:
    model = onnx.ModelProto()
    function = model.functions.add(name="f")
    function.node.add().attribute.add().t.CopyFrom(external_tensor("body.bin"))
    function.attribute_proto.add().t.CopyFrom(external_tensor("default.bin"))
    return model


def in_nested_subgraph() -> onnx.ModelProto:
    inner = in_attribute(g=graph_with("inner.bin")).graph
    return in_attribute(g=inner)


PLACES: list[tuple[str, Callable[[], onnx.ModelProto], set[str]]] = [
    ("initializer", lambda: onnx.ModelProto(graph=graph_with("w.bin")), {"w.bin"}),
    (
        "sparse initializer",
        lambda: onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse("s.bin")])),
        {"s.bin", "s.bin.indices"},
    ),
    ("attribute", lambda: in_attribute(t=external_tensor("t.bin")), {"t.bin"}),
    ("list of tensors", lambda: in_attribute(tensors=[external_tensor("a"), external_tensor("b")]), {"a", "b"}),
    ("sparse attribute", lambda: in_attribute(sparse_tensor=sparse("s")), {"s", "s.indices"}),
    ("list of sparse tensors", lambda: in_attribute(sparse_tensors=[sparse("s")]), {"s", "s.indices"}),
    ("subgraph", lambda: in_attribute(g=graph_with("g.bin")), {"g.bin"}),
    ("list of subgraphs", lambda: in_attribute(graphs=[graph_with("g.bin"), graph_with("h.bin")]), {"g.bin", "h.bin"}),
    ("subgraph of a subgraph", in_nested_subgraph, {"inner.bin"}),
    ("function", in_function, {"body.bin", "default.bin"}),
    ("training", in_training, {"initial.bin", "algorithm.bin"}),
]


@pytest.fixture
def locations(tmp_path: Path) -> Callable[[bytes], set[str]]:
    """What is found in a file with these bytes."""
    path = tmp_path / "graph.onnx"

    def read(content: bytes) -> set[str]:
        path.write_bytes(content)
        return external_locations(path)

    return read


@pytest.mark.parametrize(("make", "expected"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_external_data_is_found_everywhere(
    make: Callable[[], onnx.ModelProto], expected: set[str], locations: Callable[[bytes], set[str]]
) -> None:
    assert locations(make().SerializeToString()) == expected


def test_a_model_that_onnx_itself_saved(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1024], bytes(4096), raw=True)
    output = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [1024])
    model = helper.make_model(helper.make_graph([], "g", [], [output], [weights]))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert external_locations(tmp_path / "m.onnx") == {"w.bin"}


def test_the_graphs_of_a_bundle_refer_to_files_of_the_bundle(tiny_bundle: Bundle) -> None:
    found = set[str]().union(*(external_locations(tiny_bundle.graph_path(name)) for name in tiny_bundle.graphs))
    assert found
    assert {f"graphs/{name}" for name in found} == {name for name in tiny_bundle.files if name.endswith(".bin")}


def test_only_the_names_of_external_files_change(tmp_path: Path) -> None:
    model = helper.make_model(helper.make_graph([], "g", [], [], [external_tensor("a.bin"), external_tensor("b.bin")]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    renamed = onnx.load_from_string(renamed_locations(tmp_path / "m.onnx", {"a.bin": "c" * 200}))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "c" * 200 if entry.value == "a.bin" else entry.value
    assert renamed == model


def test_a_graph_without_the_names_stays_as_it_is(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.graph_path("step")
    assert renamed_locations(path, {"nobody.bin": "x.bin"}) == path.read_bytes()


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def entry(location: bytes) -> bytes:
    return field(1, b"location") + field(2, location)


def test_the_value_may_come_before_the_key(locations: Callable[[bytes], set[str]]) -> None:
    backwards = field(2, b"w.bin") + field(1, b"location")
    assert locations(field(7, field(5, field(13, backwards)))) == {"w.bin"}


def test_of_repeated_fields_the_last_counts_as_in_protobuf(locations: Callable[[bytes], set[str]]) -> None:
    twice = field(1, b"offset") + field(1, b"location") + field(2, b"first") + field(2, b"last")
    assert locations(field(7, field(5, field(13, twice)))) == {"last"}


def test_a_graph_in_two_parts_is_read_as_one(locations: Callable[[bytes], set[str]]) -> None:
    parts = [field(7, field(5, field(13, entry(name)))) for name in (b"a", b"b")]
    assert locations(b"".join(parts)) == {"a", "b"}


def test_a_location_without_a_value_is_reported(locations: Callable[[bytes], set[str]]) -> None:
    assert locations(field(7, field(5, field(13, field(1, b"location"))))) == {""}


def test_scalars_between_the_fields_are_skipped(locations: Callable[[bytes], set[str]]) -> None:
    scalars = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x15" + bytes(4)
    assert locations(scalars + field(7, scalars + field(5, scalars + field(13, entry(b"w"))))) == {"w"}


def test_a_field_number_cannot_be_hidden_in_bits_that_protobuf_drops(locations: Callable[[bytes], set[str]]) -> None:
    graph = field(5, field(13, entry(b"/etc/passwd")))
    hidden = varint(1 << 32 | 7 << 3 | 2) + varint(len(graph)) + graph
    with pytest.raises(BundleIntegrityError, match="field number is too large"):
        locations(hidden)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff", "ends within a number"),
        (b"\xff" * 11, "number is too long"),
        (field(7, b"1234")[:-1], "ends behind the file"),
        (b"\x11\0\0", "ends behind the file"),
        (b"\x0b", "wire type 3"),
        (field(7, field(5, field(13, field(2, b"\xff")))), "utf-8"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    content: bytes, reason: str, locations: Callable[[bytes], set[str]]
) -> None:
    with pytest.raises(BundleIntegrityError, match=reason):
        locations(content)


def test_endless_nesting_is_refused(locations: Callable[[bytes], set[str]]) -> None:
    graph = field(5, field(13, entry(b"deep")))
    for _ in range(500):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(BundleIntegrityError, match="more than 100 messages"):
        locations(field(7, graph))


def test_a_file_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(BundleIntegrityError, match="not a readable ONNX file"):
        external_locations(tmp_path)


@quick
@given(content=st.binary(max_size=200))
def test_garbage_gives_names_or_a_typed_error(content: bytes, locations: Callable[[bytes], set[str]]) -> None:
    with suppress(BundleIntegrityError):
        assert all(isinstance(name, str) for name in locations(content))


EVERYWHERE = onnx.ModelProto()
for _, make_place, _ in PLACES:
    EVERYWHERE.MergeFrom(make_place())
EVERYWHERE_BYTES = EVERYWHERE.SerializeToString()


def seen_by_protobuf(message: Message) -> Iterator[str]:
    """Every location anywhere in a parsed message, by reflection."""
    if isinstance(message, onnx.TensorProto):
        yield from (item.value for item in message.external_data if item.key == "location")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from seen_by_protobuf(inner)


def test_the_reflection_that_the_next_test_relies_on_sees_all_places() -> None:
    assert set(seen_by_protobuf(EVERYWHERE)) == set[str]().union(*(expected for _, _, expected in PLACES))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(EVERYWHERE_BYTES) - 1), st.binary(max_size=3), st.integers(0, 3)),
        min_size=1,
        max_size=4,
    )
)
def test_no_damage_hides_a_name_that_protobuf_sees(
    edits: list[tuple[int, bytes, int]], locations: Callable[[bytes], set[str]]
) -> None:
    content = bytearray(EVERYWHERE_BYTES)
    for start, inserted, removed in edits:
        content[start : start + removed] = inserted
    try:
        found = locations(bytes(content))
    except BundleIntegrityError:
        return
    try:
        parsed = onnx.ModelProto.FromString(bytes(content))
    except DecodeError:
        return
    assert set(seen_by_protobuf(parsed)) <= found
