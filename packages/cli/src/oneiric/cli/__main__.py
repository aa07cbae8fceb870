"""``python -m oneiric.cli``."""

import sys

from oneiric.cli import main

sys.exit(main())
