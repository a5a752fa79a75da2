"""Memory management: page frames, page tables, areas. Named after ``mm/`` in Linux."""
