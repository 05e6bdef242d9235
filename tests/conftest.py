"""Settings of all tests."""

import os

# Several test processes share the cores: threads of linear algebra, on matrices as small as those
# of L-BFGS-B, would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
