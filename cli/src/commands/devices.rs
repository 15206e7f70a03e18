//! `devices`: which backends and devices there are.

use crate::error::Result;
use crate::output;

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
    output::text(&text)
}
