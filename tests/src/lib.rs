//! The suites are under `tests/`.
