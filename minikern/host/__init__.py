"""What the kernel needs of the machine underneath: clock, randomness, terminal, descriptors. Not kernel state."""
