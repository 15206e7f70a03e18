//! `selfcls-importer OUT FILE.onnx...`: turns files into Rust modules on burn, `OUT/FILE.rs`, with their weights,
//! `OUT/FILE.bpk`.
//!
//! The modules of the files in `tests/fixtures/roundtrip` are kept beside the test that runs them, so that tests need
//! not build the importer. `cargo xtask roundtrip` makes them anew and compares.

use burn_onnx::{LoadStrategy, ModelGen};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, files @ ..] = arguments.as_slice() else {
        eprintln!("usage: selfcls-importer OUT FILE.onnx...");
        std::process::exit(2);
    };
    let mut importer = ModelGen::new();
    importer.out_dir(out).load_strategy(LoadStrategy::Bytes);
    for file in files {
        importer.input(file);
    }
    importer.run_from_cli();
}
