//! Debian's and Ubuntu's package manager, used only where this program may.

use std::process::Command;

use crate::process::{output, succeeds};

/// Installs `packages`, or says why that is not done.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err("apt-get is not there".to_owned());
    }
    let user = output(Command::new("id").arg("-u"))?;
    if user.trim() != "0" {
        return Err("apt-get needs root".to_owned());
    }
    println!("installing {} with apt-get", packages.join(", "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let install = || {
        output(
            apt()
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages),
        )
    };
    // A fresh image has no package lists; a machine in use has them already.
    if install().is_err() {
        output(apt().arg("update"))?;
        install()?;
    }
    Ok(())
}
