"""The x86-64 backend of minikern; `arch.X86_64` is its entry point."""
