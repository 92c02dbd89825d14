"""`python -m hungarian_core`: the command line of `hungarian_core.cli`."""

import sys

from hungarian_core.cli import main

sys.exit(main())
