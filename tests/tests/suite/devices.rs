//! Every selection either opens or says why not and what to do; none panics.

use selfcls_backends::{Backend, BackendError, Selection, list, open};
use selfcls_tests::{binary, not_run};
use std::process::Command;

const SELECTIONS: [&str; 15] = [
    "flex",
    "ndarray",
    "wgpu",
    "wgpu:cpu",
    "wgpu:gpu",
    "wgpu:0",
    "wgpu:99",
    "wgpu:discrete:7",
    "wgpu:integrated:0",
    "tch",
    "tch:cpu",
    "tch:cuda",
    "tch:cuda:99",
    "tch:0",
    "tch:mps",
];

pub(crate) fn every_selection_opens_or_explains() {
    for text in SELECTIONS {
        let selection: Selection = text.parse().expect("a valid selection");
        match open(&selection) {
            Ok(opened) => {
                assert_eq!(opened.backend, selection.backend());
                assert!(
                    opened.name.starts_with(selection.backend().name()),
                    "{opened:?}"
                );
                let again = open(&selection).expect("what opened once opens twice");
                assert_eq!(again.device, opened.device);
            }
            Err(BackendError::NotCompiledIn(backend)) => {
                assert_eq!(backend, selection.backend());
                assert!(!backend.is_compiled_in());
            }
            Err(error) => {
                let message = error.to_string();
                assert!(selection.backend().is_compiled_in(), "{message}");
                assert!(message.starts_with(&selection.to_string()), "{message}");
            }
        }
    }
}

pub(crate) fn indices_beyond_the_machine_are_refused() {
    for text in ["wgpu:99", "wgpu:discrete:99", "tch:cuda:99"] {
        let selection: Selection = text.parse().expect("a valid selection");
        assert!(open(&selection).is_err(), "{text}");
    }
}

pub(crate) fn what_is_listed_opens() {
    let statuses = list();
    let backends: Vec<_> = statuses.iter().map(|status| status.backend).collect();
    assert_eq!(backends, Backend::ALL);
    for status in statuses {
        assert_eq!(status.compiled_in, status.backend.is_compiled_in());
        if status.devices.is_empty() {
            let advice = status.advice.expect("without a device there is advice");
            let test = format!("devices::what_is_listed_opens[{}]", status.backend);
            not_run(&test, advice);
        }
        for device in status.devices {
            let opened = open(&device.selection).expect("a listed device opens");
            assert_eq!(opened.backend, status.backend);
        }
    }
}

/// What tests are given to find libtorch, users need not set: the binary knows where it was.
pub(crate) fn the_binary_finds_its_libraries() {
    let Some(binary) = binary() else {
        let why = "selfcls-cli has not been built: use `cargo xtask test`";
        return not_run("devices::the_binary_finds_its_libraries", why);
    };
    let output = Command::new(binary)
        .arg("devices")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("DYLD_LIBRARY_PATH")
        .output()
        .expect("the binary starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let listed = String::from_utf8_lossy(&output.stdout);
    for backend in Backend::ALL {
        assert!(listed.contains(backend.name()), "{listed}");
    }
}
