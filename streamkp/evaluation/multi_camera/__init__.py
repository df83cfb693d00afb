"""Live 3D of single views against several calibrated cameras."""
