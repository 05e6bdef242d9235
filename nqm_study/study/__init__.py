"""The study loop: what is searched, where it is kept, and how it runs."""
