"""ONNX files and OpenVINO folders of strangers: what reaches outside of them is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from bert_cls.engines.onnx_guard import check_onnx
from bert_cls.engines.openvino_guard import check_openvino
from bert_cls.errors import BundleError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import AttributeProto, TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT
OUTSIDE = r"other files|which no engine"


def tensor(name: str = "w", *, external: str | None = None) -> TensorProto:
    made = numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), name)
    if external is not None:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value=external)
    return made


def graph(nodes=None, initializers=None, **more):
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", FLOAT, [None, 2])],
        [value("y", FLOAT, [None, 2])],
        [tensor()] if initializers is None else initializers,
        **more,
    )


def model(made=None, *, functions=(), domains=("",)):
    imports = [helper.make_opsetid(domain, 17) for domain in domains]
    return helper.make_model(made or graph(), opset_imports=imports, functions=functions)


def with_attribute(attribute: AttributeProto):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    node.attribute.append(attribute)
    return model(graph([node]))


def branches(inner):
    """An `If` whose branches hold the nodes and tensors given."""
    out = [helper.make_tensor_value_info("z", FLOAT, None)]
    body = helper.make_graph(inner[0], "inner", [], out, inner[1])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    return model(graph([node]))


def function(nodes, *, domain="local", name="F"):
    return helper.make_function(
        domain, name, ["a", "b"], ["c"], nodes, [helper.make_opsetid("", 17)]
    )


def constant(made: TensorProto):
    return helper.make_node("Constant", [], ["z"], value=made)


def sparse(*, external_part: str):
    values = tensor("s", external="s.bin" if external_part == "values" else None)
    indices = tensor("i", external="i.bin" if external_part == "indices" else None)
    return helper.make_sparse_tensor(values, indices, [2, 2])


def quantized():
    scale = numpy_helper.from_array(np.array(0.5, dtype=np.float32), "scale")
    zero = numpy_helper.from_array(np.array(0, dtype=np.int8), "zero")
    weight = numpy_helper.from_array(np.ones((2, 2), dtype=np.int8), "w8")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["xd", "w"], ["y"]),
    ]
    return graph(nodes, [scale, zero, weight])


CALL = helper.make_node("F", ["x", "w"], ["y"], domain="local")
MATMUL = helper.make_node("MatMul", ["a", "b"], ["c"])
EVIL = helper.make_node("Evil", ["a", "b"], ["c"], domain="evil")

HONEST = {
    "plain": model(),
    "int8 QDQ": model(quantized()),
    "contributed": model(
        graph([helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")]),
        domains=("", "com.microsoft"),
    ),
    "the long name of the standard": model(
        graph([helper.make_node("MatMul", ["x", "w"], ["y"], domain="ai.onnx")])
    ),
    "branches": branches(([constant(tensor())], [])),
    "a function of its own": model(graph([CALL]), functions=[function([MATMUL])]),
    "a domain only declared": model(domains=("", "ai.onnx.training", "evil")),
    "sparse": model(graph(sparse_initializer=[sparse(external_part="none")])),
}
HOSTILE = {
    "initializer": model(graph(initializers=[tensor(external="../../../etc/passwd")])),
    "plain basename": model(graph(initializers=[tensor(external="weights.bin")])),
    "attribute": with_attribute(helper.make_attribute("t", tensor(external="/etc/passwd"))),
    "list in an attribute": with_attribute(
        helper.make_attribute("ts", [tensor(), tensor(external="/etc/passwd")])
    ),
    "constant in a branch": branches(([constant(tensor(external="x"))], [])),
    "initializer of a branch": branches(([constant(tensor())], [tensor("q", external="x")])),
    "function body": model(graph([CALL]), functions=[function([constant(tensor(external="x"))])]),
    "sparse values": model(graph(sparse_initializer=[sparse(external_part="values")])),
    "sparse indices": model(graph(sparse_initializer=[sparse(external_part="indices")])),
    "sparse attribute": with_attribute(helper.make_attribute("s", sparse(external_part="values"))),
    "custom operator": model(graph([EVIL])),
    "custom operator in a branch": branches(([EVIL], [])),
    "custom operator in a function": model(graph([CALL]), functions=[function([EVIL])]),
    "a function that is not there": model(graph([CALL])),
    "a function of another name": model(graph([CALL]), functions=[function([MATMUL], name="G")]),
    "context of an engine": model(
        graph([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")])
    ),
    "python": model(graph([helper.make_node("PythonOp", ["x"], ["y"], domain="com.microsoft")])),
    "pytorch": model(graph([helper.make_node("ATen", ["x"], ["y"], domain="org.pytorch.aten")])),
}


def location_alone():
    made = tensor()
    made.data_location = TensorProto.EXTERNAL
    return model(graph(initializers=[made]))


def entries_alone():
    """Entries without the flag: some readers go by the one, some by the other."""
    made = tensor()
    made.external_data.add(key="location", value="x")
    return model(graph(initializers=[made]))


def training():
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph(initializers=[tensor(external="x")]))
    return made


def default_of_a_function():
    made = function([MATMUL])
    made.attribute_proto.append(helper.make_attribute("t", tensor(external="x")))
    return model(graph([CALL]), functions=[made])


HOSTILE |= {
    "flag alone": location_alone(),
    "entries alone": entries_alone(),
    "training graph": training(),
    "default of a function": default_of_a_function(),
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("made", HONEST.values(), ids=HONEST.keys())
def test_honest_graphs_pass(made, tmp_path):
    check_onnx(write(tmp_path, made.SerializeToString()))


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE.keys())
def test_graphs_that_reach_outside_are_refused(made, tmp_path):
    with pytest.raises(BundleError, match=OUTSIDE):
        check_onnx(write(tmp_path, made.SerializeToString()))


def message(number: int, content: bytes) -> bytes:
    size = len(content)
    length = b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_what_protobuf_would_merge_or_overwrite_hides_nothing(tmp_path):
    plain = model().SerializeToString()
    second_graph = message(7, message(5, message(13, b"")))
    late_flag = message(7, message(5, b"\x70\x01\x70\x00"))  # external, then default again
    two_domains = message(7, message(1, message(4, b"E") + message(7, b"evil") + message(7, b"")))
    for more in (second_graph, late_flag, two_domains):
        with pytest.raises(BundleError, match=OUTSIDE):
            check_onnx(write(tmp_path, plain + more))
        with pytest.raises(BundleError, match=OUTSIDE):
            check_onnx(write(tmp_path, more + plain))


def test_bytes_that_are_no_model_are_refused(tmp_path):
    plain = model().SerializeToString()
    deep = b""
    for _ in range(300):
        deep = message(1, message(5, message(6, deep)))
    ends_within = [b"\x3a\x80", b"\x3a\xff\xff\xff\xff\x0f", b"\x80" * 20, b"\x3b\x3c", b"\x02\x00"]
    for content in (b"", b"\x08\x07", b"PK\x03\x04", plain[:-1], message(7, deep), *ends_within):
        with pytest.raises(BundleError, match="ONNX model"):
            check_onnx(write(tmp_path, content))
    with pytest.raises(BundleError, match="fields"):
        check_onnx(write(tmp_path, message(7, b"\x20\x01" * 500_001)))


def reaches_outside(made) -> bool:
    """By onnx's own reader, for graphs of one level."""
    tensors = [*made.graph.initializer]
    for node in made.graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
    return any(t.data_location == TensorProto.EXTERNAL or t.external_data for t in tensors)


def test_damaged_bytes_neither_crash_nor_slip_through(tmp_path):
    chooser = random.Random(5)
    originals = [made.SerializeToString() for made in (*HONEST.values(), *HOSTILE.values())]
    passed = parsed = 0
    for _ in range(700):
        content = bytearray(chooser.choice(originals))
        for _ in range(chooser.randrange(1, 4)):
            content[chooser.randrange(len(content))] = chooser.randrange(256)
        content = content[: chooser.choice([len(content), chooser.randrange(len(content) + 1)])]
        path = write(tmp_path, bytes(content))
        try:
            check_onnx(path)
        except BundleError:
            continue
        passed += 1
        try:
            made = onnx.load_from_string(bytes(content))
        except Exception:  # other readers are stricter
            continue
        parsed += 1
        assert not reaches_outside(made)
    assert passed > 35
    assert parsed > 20


def test_links_devices_and_folders_are_refused(tmp_path):
    real = write(tmp_path, model().SerializeToString())
    check_onnx(real)
    (tmp_path / "soft.onnx").symlink_to(real)
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    odd = [tmp_path / f"{name}.onnx" for name in ("soft", "folder", "pipe", "missing", "a\0b")]
    for path in (*odd, Path("/dev/zero")):
        with pytest.raises(BundleError, match=r"regular file|cannot be opened"):
            check_onnx(path)
    os.link(real, tmp_path / "hard.onnx")
    with pytest.raises(BundleError, match="2 names"):
        check_onnx(real)


def test_large_tensors_are_stepped_over(tmp_path):
    """A gigabyte of (sparse) file is checked without being read."""
    path = tmp_path / "large.onnx"
    size = 2**30
    inner = b"\x4a" + bytes([128 | size & 127, 128, 128, 128, size >> 28])
    initializer = b"\x2a" + varint(len(inner) + size)
    with path.open("wb") as stream:
        stream.write(b"\x3a" + varint(len(initializer) + len(inner) + size) + initializer + inner)
        stream.truncate(stream.tell() + size)
    check_onnx(path)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


# --- OpenVINO

LAYER = '<layer id="0" name="c" type="Const" version="opset1"><data {}/><output/></layer>'


def ir(inside: str, *, before: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{before}<net name="m" version="11"><layers>{inside}</layers></net>'
    )


def openvino(folder: Path, text: str | bytes, weights: bytes = bytes(64)) -> Path:
    xml = folder / "model.xml"
    xml.write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "model.bin").write_bytes(weights)
    return xml


CONSTANT = LAYER.format('element_type="f32" shape="4" offset="48" size="16"')
LAUGHS = (
    '<!DOCTYPE n [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)


def test_an_honest_model_of_openvino_passes(tmp_path):
    other = (
        '<layer id="1" name="m" type="MatMul" version="opset1"><data transpose_a="false"/></layer>'
    )
    body = (
        f'<layer id="2" type="If" version="opset8"><body><layers>{CONSTANT}</layers></body></layer>'
    )
    check_openvino(openvino(tmp_path, ir(CONSTANT + other + body)))


@pytest.mark.parametrize(
    "text",
    [
        ir("&i;", before=LAUGHS),
        ir("&x;", before='<!DOCTYPE n [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        ir(CONSTANT, before='<!DOCTYPE n SYSTEM "http://127.0.0.1:9/x.dtd">'),
        ir(CONSTANT, before="<!DOCTYPE n [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>"),
        ir("&undefined;"),
        ir('<layer type="Evil" version="extension"/>'),
        ir('<layer type="Evil" version="evil"/>'),
        ir('<layer type="Evil"/>'),
        ir(f'<layer type="If" version="opset8"><b>{CONSTANT.replace("opset1", "x")}</b></layer>'),
        *(
            ir(LAYER.format(f'offset="{offset}" size="{size}"'))
            for offset, size in (
                ("49", "16"),
                ("-8", "8"),
                ("0", "-1"),
                ("18446744073709551608", "16"),
                ("9" * 30, "1"),
                ("", "8"),
                ("0x0", "8"),
                ("٣", "8"),
                ("0", "1e3"),
            )
        ),
        ir(LAYER.format('size="8"')),
        ir(LAYER.format('offset="8"')),
        "<html/>",
        "",
        "<net>",
        "not xml",
        b"\xff\xfe\x00",
        '<?xml version="1.0" encoding="evil"?><net/>',
        ir("<a>" * 100 + "</a>" * 100),
        "<" * 100_000,
    ],
)
def test_hostile_models_of_openvino_are_refused(tmp_path, text):
    with pytest.raises(BundleError, match=r"model\.xml"):
        check_openvino(openvino(tmp_path, text))


def test_the_weights_beside_are_a_plain_file(tmp_path):
    xml = openvino(tmp_path, ir(CONSTANT))
    weights = tmp_path / "model.bin"
    weights.unlink()
    with pytest.raises(BundleError, match=r"model\.bin cannot be opened"):
        check_openvino(xml)
    weights.symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match=r"model\.bin is not a regular file"):
        check_openvino(xml)


def test_damaged_openvino_bytes_never_crash(tmp_path):
    chooser = random.Random(2)
    original = ir(CONSTANT * 3).encode()
    for _ in range(200):
        content = bytearray(original)
        for _ in range(chooser.randrange(1, 4)):
            content[chooser.randrange(len(content))] = chooser.randrange(256)
        try:
            check_openvino(openvino(tmp_path, bytes(content)))
        except BundleError:
            continue


def test_what_openvino_itself_writes_passes(tmp_path):
    ov = pytest.importorskip("openvino", reason="openvino is not installed")
    path = write(tmp_path, model(quantized()).SerializeToString())
    ov.save_model(ov.convert_model(str(path)), str(tmp_path / "written.xml"))
    check_openvino(tmp_path / "written.xml")
