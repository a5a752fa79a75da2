"""What holds for every test."""

from __future__ import annotations

import os

# The readline library tells children how large it takes the terminal to be, in the environment of the C library, which
# os.environ does not show. Programs under test believe it more than their own terminal.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)
    os.unsetenv(_name)
