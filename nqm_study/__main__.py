"""``python -m nqm_study``."""

from nqm_study.app.main import main

if __name__ == "__main__":
    main()
