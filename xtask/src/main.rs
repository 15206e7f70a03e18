//! selfcls.
fn main() {}
