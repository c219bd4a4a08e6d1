"""Networks as files that others run: StableHLO, arrays with a numpy reader, ONNX."""
