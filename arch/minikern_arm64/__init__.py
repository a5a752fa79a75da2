"""The arm64 backend of minikern; `arch.Arm64` is its entry point."""
