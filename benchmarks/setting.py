"""What the benchmarks walk on: the bundled MNIST_FF."""

SETTING = (
    "seed 0",
    "data mnist-5k --train 1000",
    "load mnist-ff.safetensors",
    "level",
    "reg l2 on",
)
