"""The processor: a thin layer over Unicorn. Nothing of the kernel is in here, and no kernel state."""
