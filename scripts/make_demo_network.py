"""Train the demo's network, and write it with its data to src/bitwright/demo.

    pip install 'bitwright[train]'
    python scripts/make_demo_network.py

Data: scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (see NOTICE), 1797 gray images,
scaled from 8x8 to 16x16.  A third is held out; calibration images are training images.

The network is small, but has what makes quantizing interesting: batch norms that are not folded, a depthwise separable
block, a residual addition and a concatenation.  One thing is helped along.  Large networks trained for long grow channels
that are nearly silent, and the batch norm behind the next depthwise layer amplifies them: after folding, a few channels
have weights a hundred times larger than the others, which a format for the whole tensor then cannot resolve.  A network
this small does not grow them by itself, so three channels of the first layer are *started* nearly silent.  All else is
ordinary training.  What follows is the well-known picture: per-tensor formats lose accuracy, per-channel formats do not,
and equalizing the channels repairs it without changing the float network.

One machine writes the same bytes each time.  On another, float sums may round differently, so that weights and accuracy
differ a little; the files in the repository are what the tests hold to their stated accuracy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

FOLDER = Path(__file__).parent.parent / "src" / "bitwright" / "demo"
SEED = 7
SIZE = 16
HELD_OUT, CALIBRATION = 600, 100
EPOCHS, BATCH, RATE = 60, 32, 4e-3
FAINT, FAINTNESS = 3, 0.003

CONTRACT = """\
# How an image becomes the network's input, and what the output means.

[input]
name = "image"
layout = "NCHW"
color = "gray"
mean = [0.0]
std = [255.0]

[output]
name = "logits"
task = "classification"
offset = 0
"""


class ConvNorm(nn.Module):
    """Convolution, batch norm, and perhaps a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.relu else x


class Digits(nn.Module):
    """16x16 gray to ten classes, 18 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16, 3)
        self.depthwise = ConvNorm(16, 16, 3, groups=16)
        self.pointwise = ConvNorm(16, 32, 1)
        self.residual = ConvNorm(32, 32, 3, relu=False)
        self.narrow = ConvNorm(32, 24, 1)
        self.wide = ConvNorm(32, 24, 3)
        self.classify = nn.Linear(48, 10)
        with torch.no_grad():
            self.stem.norm.weight[:FAINT] = FAINTNESS  # the nearly silent channels

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.stem(x), 2)
        x = self.pointwise(self.depthwise(x))
        x = torch.relu(self.residual(x) + x)
        x = torch.cat([self.narrow(x), self.wide(x)], 1)
        return self.classify(x.mean((2, 3)))


def images() -> tuple[np.ndarray, np.ndarray]:
    """All images as uint8 [n, 16, 16], and their labels."""
    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    scaled = [np.asarray(Image.fromarray(x).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for x in small]
    return np.stack(scaled), digits.target.astype(np.int64)


def tensor(x: np.ndarray) -> Tensor:
    """Images as the input contract makes them."""
    return torch.from_numpy(x.astype(np.float32) / np.float32(255))[:, None]


def train(x: np.ndarray, y: np.ndarray) -> Digits:
    """The network, trained on images shifted by up to two pixels."""
    net = Digits()
    pixels, labels = tensor(x), torch.from_numpy(y)
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            picked = order[start : start + BATCH]
            down, right = (int(v) for v in torch.randint(-2, 3, (2,)))
            batch = torch.roll(pixels[picked], (down, right), (2, 3))
            loss = nn.functional.cross_entropy(net(batch), labels[picked], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


class Writer:
    """Collects ONNX nodes under readable names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Tensor) -> str:
        self.tensors.append(numpy_helper.from_array(value.detach().numpy().astype(np.float32), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def conv_norm(self, name: str, module: ConvNorm, x: str) -> str:
        conv, norm = module.conv, module.norm
        k = conv.kernel_size[0]
        weight = self.constant(f"{name}_conv_weight", conv.weight)
        x = self.node("Conv", f"{name}_conv", [x, weight], kernel_shape=[k, k], pads=[k // 2] * 4, group=conv.groups)
        parts = {"gain": norm.weight, "shift": norm.bias, "mean": norm.running_mean, "variance": norm.running_var}
        own = [self.constant(f"{name}_norm_{part}", value) for part, value in parts.items()]
        x = self.node("BatchNormalization", f"{name}_norm", [x, *own], epsilon=norm.eps)
        return self.node("Relu", f"{name}_relu", [x]) if module.relu else x


def export(net: Digits, path: Path) -> None:
    """Write the network with its batch norms unfolded."""
    w = Writer()
    x = w.conv_norm("stem", net.stem, "image")
    x = w.node("MaxPool", "pool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = w.conv_norm("depthwise", net.depthwise, x)
    x = w.conv_norm("pointwise", net.pointwise, x)
    y = w.conv_norm("residual", net.residual, x)
    x = w.node("Add", "residual_add", [y, x])
    x = w.node("Relu", "residual_relu", [x])
    x = w.node("Concat", "concat", [w.conv_norm("narrow", net.narrow, x), w.conv_norm("wide", net.wide, x)], axis=1)
    x = w.node("GlobalAveragePool", "average", [x])
    x = w.node("Flatten", "flatten", [x])
    parts = [w.constant("classify_weight", net.classify.weight), w.constant("classify_bias", net.classify.bias)]
    w.node("Gemm", "classify", [x, *parts], output="logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(w.nodes, "digits", [image], [logits], w.tensors)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="bitwright demo")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Train, and write four files."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x, y = images()
    order = np.random.default_rng(SEED).permutation(len(x))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    net = train(x[training], y[training])
    with torch.no_grad():
        right = (net(tensor(x[held_out])).argmax(1).numpy() == y[held_out]).mean()
    FOLDER.mkdir(parents=True, exist_ok=True)
    export(net, FOLDER / "digits.onnx")
    (FOLDER / "digits.toml").write_text(CONTRACT)
    calibration = training[:CALIBRATION]
    np.savez_compressed(FOLDER / "digits-calib.npz", x=x[calibration], y=y[calibration])
    np.savez_compressed(FOLDER / "digits-val.npz", x=x[held_out], y=y[held_out])
    print(f"float accuracy on {HELD_OUT} held-out images: {right:.4f}")
    for file in sorted(FOLDER.iterdir()):
        print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
