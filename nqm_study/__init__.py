"""Tune optimizers on the noisy quadratic model and see how they scale with batch size.

The public names are listed in ``__init__.pyi``; the module of each is imported when it is first
used, so that importing this package takes no time.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
