//! Models and images that the cases need.

use crate::Args;
use selfcls_backends::{Selection, open};
use selfcls_benches::Outcome;
use selfcls_core::Config;
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::model::state_dict;
use selfcls_export::OnnxWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Large photos, and sides of them.
const LARGE: usize = 16;
const SIDES: (u32, u32) = (4000, 3000);

/// Exports a ResNet-18 with initial weights: how long it takes does not depend on what it has learnt.
pub(crate) fn untrained(folder: &Path) -> Outcome<PathBuf> {
    let mut config = Config::default();
    config.model.hidden_dim = 512;
    config.model.heads = vec![1000];
    let device = open(&Selection::default())?.device;
    let weights = state_dict(&config.model.init(&device, 0));
    let metadata = Metadata::new(&config, TrainingSummary::default());
    let path = folder.join("resnet18.onnx");
    OnnxWriter::new(&config.model, &weights, metadata).write(&path)?;
    Ok(path)
}

/// `model` in 8 bits, after the recipe in docs; or why not.
pub(crate) fn quantised(args: &Args, model: &Path, folder: &Path) -> Result<PathBuf, String> {
    let python = args.common.peer.peer_python.as_ref();
    let python = python.ok_or("without --peer-python nothing can be quantised")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quantise_int8.py");
    let path = folder.join("int8.onnx");
    let mut command = Command::new(python);
    command.arg(script).arg(model).arg(&args.data).arg(&path);
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    match output.status.success() {
        true => Ok(path),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Photos as a camera makes them: those of `data`, enlarged. Made once.
pub(crate) fn large_photos(data: &Path, folder: &Path) -> Outcome<PathBuf> {
    let target = folder.join("large");
    if target.is_dir() {
        return Ok(target);
    }
    std::fs::create_dir(&target)?;
    for (number, file) in images(data, LARGE)?.into_iter().enumerate() {
        let photo = image::open(file)?.into_rgb8();
        let (width, height) = SIDES;
        let filter = image::imageops::FilterType::Triangle;
        let large = image::imageops::resize(&photo, width, height, filter);
        let mut jpeg = std::io::BufWriter::new(std::fs::File::create(
            target.join(format!("{number:03}.jpg")),
        )?);
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&large)?;
    }
    Ok(target)
}

/// The first files below `folder` that the peer would take.
pub(crate) fn images(folder: &Path, limit: usize) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    files.truncate(limit);
    Ok(files)
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        if path.is_dir() {
            list(&path, found)?;
        } else if extension.is_some_and(|e| e == "jpg" || e == "jpeg" || e == "png") {
            found.push(path);
        }
    }
    Ok(())
}
