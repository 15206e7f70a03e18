//! selfcls.
