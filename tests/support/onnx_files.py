"""Small ONNX files, shaped as the older release's."""

from onnx import TensorProto, helper


def green_mean(side, *, batch=1, with_map=False):
    """Return a model whose score is the mean of the green channel of (batch, 3, side, side), as bytes."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch, 1])]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["channels"]),
        helper.make_node("MatMul", ["channels", "green"], ["score"]),
    ]
    green = helper.make_tensor("green", TensorProto.FLOAT, [3, 1], [0.0, 1.0, 0.0])
    if with_map:
        nodes.append(helper.make_node("Relu", ["image"], ["map"]))
        outputs.insert(0, helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, 3, side, side]))
    graph = helper.make_graph(nodes, "older", [image], outputs, [green])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
