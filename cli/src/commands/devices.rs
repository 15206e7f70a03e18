//! `devices`: which backends and devices there are, and which of several processes this is.

use crate::error::{CliError, Result};
use crate::output;
use selfcls_backends::Rendezvous;

pub(crate) fn run() -> Result<()> {
    let mut text = String::new();
    for status in selfcls_backends::list() {
        let state = match (status.compiled_in, status.devices.is_empty()) {
            (false, _) => "not in this build",
            (true, true) => "no device",
            (true, false) => "ready",
        };
        let library = status
            .library
            .map_or(String::new(), |library| format!(", {library}"));
        text.push_str(&format!("{:<8} {state}{library}\n", status.backend.name()));
        for device in status.devices {
            text.push_str(&format!(
                "    --backend {:<16} {}\n",
                device.selection.to_string(),
                device.description
            ));
        }
        if let Some(advice) = status.advice {
            text.push_str(&format!("    {advice}\n"));
        }
    }
    // What a launcher set wrong is best seen beside what is there.
    let place = Rendezvous::from_env();
    if let Ok(Some(place)) = &place {
        text.push_str(&format!("{:<8} {place}\n", "process"));
    }
    output::text(&text)?;
    place.map(drop).map_err(CliError::usage)
}
