"""Storage of studies: backends, their locks, their errors, and studies read as records.

``backends.Backend`` opens a storage, ``studies`` makes, checks and reads its studies,
``failures`` are the errors to catch, ``origin`` is what trials are made with.
SQLAlchemy is imported by ``database`` only: the embedded journal does without it.
Never here: what a trial computes, or what MLflow shows.
"""
