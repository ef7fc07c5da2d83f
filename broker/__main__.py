"""`python -m broker`: the broker process; the supervisor starts it and tells it the rest."""

import sys

from broker.main import main

if __name__ == "__main__":
    sys.exit(main())
