"""What executes a network: OpenVINO, torch, ONNX Runtime. Knows nothing of poses."""
