"""``python -m nqm_study.report``: rebuild every summary, table and figure from storage."""

from nqm_study.app.report_command import main

if __name__ == "__main__":
    main()
