"""``python -m nqm_study``."""

from nqm_study.cli import main

if __name__ == "__main__":
    main()
