"""The scaling of curves in numbers: limits, critical batch sizes, hyperbolas, slopes of best rates.

``measure`` has the analyses of curves, ``tables`` those for people to read and the one for
programs, and ``files`` what is written beside the figures. What a number is computed from is not
here: the laws, limits and hyperbolas beside this folder know curves and points only. Nothing here
draws, and nothing here reads a storage.
"""
