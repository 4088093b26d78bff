"""From a model to ONNX files: what is exported, checked, made smaller, measured."""
