"""The command line: what happens between a typed command and its last line.

Here are the entry (``main``), the sweep that composes and checks every study before anything is
written, the job and the worker that run one study, progress, presets and the reports. ``api`` takes
``worker`` from here; nothing else is imported from outside. Formulas, what a study is, and what is
drawn of it never belong here.
"""
