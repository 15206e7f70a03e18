//! `devices`: which backends and devices there are.

use crate::error::{CliError, Result};

pub(crate) fn run() -> Result<()> {
    Err(CliError::failure("devices is not wired yet"))
}
