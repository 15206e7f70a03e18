//! The two containers: a zip archive, and pickles and storages in sequence.

use super::Dtype;
use crate::pretrained::pickle::{self, Graph, MAX_BYTES, Value};
use crate::{Error, Result};
use rawzip::{
    CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How a zip archive begins.
pub(crate) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// How a sequence begins: a pickle of the number 0x1950a86a20f9469cfc6c.
pub(crate) const SEQUENCE_MAGIC: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The only version of the sequence there is.
const SEQUENCE_VERSION: i64 = 1001;

/// The storages of an open file.
#[derive(Debug)]
pub(super) enum Container {
    Zip(Zip),
    Sequence {
        file: RefCell<File>,
        /// Offset and length in bytes of each storage.
        storages: BTreeMap<String, (u64, u64)>,
    },
}

impl Container {
    /// Opens `path` and reads its object.
    pub(super) fn open(path: &Path) -> Result<(Self, Graph)> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut magic = Vec::new();
        (&mut file)
            .take(SEQUENCE_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .and_then(|_| file.rewind())
            .map_err(Error::io("read", path))?;
        if magic.starts_with(ZIP_MAGIC) {
            open_zip(file).map_err(|reason| Error::malformed(path, reason))
        } else if magic == SEQUENCE_MAGIC {
            open_sequence(file).map_err(|reason| Error::malformed(path, reason))
        } else {
            Err(Error::malformed(
                path,
                "not a file of torch.save (PyTorch 0.4 and later); load it with the PyTorch that wrote it, and save its state_dict() again",
            ))
        }
    }

    /// At least the first `length` bytes of storage `key`.
    pub(super) fn read(&self, key: &str, length: usize) -> Result<Vec<u8>, String> {
        let bytes = match self {
            Self::Zip(zip) => zip.entry(&format!("data/{key}"), u64::MAX)?,
            Self::Sequence { file, storages } => {
                let &(offset, available) = storages
                    .get(key)
                    .ok_or_else(|| format!("the file has no storage {key:?}"))?;
                let mut file = file.borrow_mut();
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(offset))
                    .and_then(|_| {
                        (&mut *file)
                            .take(available.min(length as u64))
                            .read_to_end(&mut bytes)
                    })
                    .map_err(|error| error.to_string())?;
                bytes
            }
        };
        if bytes.len() < length {
            return Err(format!(
                "its storage {key:?} has {} bytes of the {length} it should; the file is cut short or damaged, get it again",
                bytes.len()
            ));
        }
        Ok(bytes)
    }
}

/// An archive as torch.save writes it.
#[derive(Debug)]
pub(super) struct Zip {
    archive: ZipArchive<FileReader>,
    entries: BTreeMap<String, (ZipArchiveEntryWayfinder, CompressionMethod)>,
    /// What stands before `data.pkl` in its entry's name.
    root: String,
}

impl Zip {
    fn open(file: File) -> Result<Self, String> {
        let fail = |error: rawzip::Error| {
            format!("{error}; the file is cut short or damaged, get it again")
        };
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer).map_err(fail)?;
        let mut entries = BTreeMap::new();
        let mut listed = archive.entries(&mut buffer);
        while let Some(entry) = listed.next_entry().map_err(fail)? {
            if let Ok(name) = std::str::from_utf8(entry.file_path().as_bytes()) {
                let place = (entry.wayfinder(), entry.compression_method());
                entries.insert(name.to_string(), place);
            }
        }
        let object = entries
            .keys()
            .find(|name| name.ends_with("data.pkl") && name.matches('/').count() == 1)
            .ok_or("a zip archive without data.pkl: not a file of torch.save")?;
        let root = object.trim_end_matches("data.pkl").to_string();
        if entries.contains_key(&format!("{root}constants.pkl")) {
            return Err(
                "a TorchScript archive; open it with torch.jit.load in PyTorch and torch.save its state_dict()"
                    .into(),
            );
        }
        Ok(Self {
            archive,
            entries,
            root,
        })
    }

    /// The bytes of an entry, at most `limit`. Only stored entries are read, as torch.save writes them:
    /// what comes out is then no longer than the file. It is read to its end, where its checksum is
    /// compared.
    fn entry(&self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let name = format!("{}{name}", self.root);
        let &(place, compression) = self
            .entries
            .get(&name)
            .ok_or_else(|| format!("the archive has no entry {name}"))?;
        if compression != CompressionMethod::STORE {
            return Err(format!(
                "entry {name} is compressed ({compression}), which torch.save never does; unpack the archive and pack it again with `zip -0`"
            ));
        }
        let size = place.uncompressed_size_hint();
        if size > limit {
            return Err(format!(
                "entry {name} is {size} bytes long, at most {limit} are read"
            ));
        }
        let fail = |error: &dyn std::fmt::Display| {
            format!("entry {name}: {error}; the file is damaged, get it again")
        };
        let entry = self
            .archive
            .get_entry(place)
            .map_err(|error| fail(&error))?;
        let mut bytes = Vec::new();
        entry
            .verifying_reader(entry.reader())
            .read_to_end(&mut bytes)
            .map_err(|error| fail(&error))?;
        Ok(bytes)
    }
}

fn open_zip(file: File) -> Result<(Container, Graph), String> {
    let zip = Zip::open(file)?;
    let order = format!("{}byteorder", zip.root);
    if zip.entries.contains_key(&order) && zip.entry("byteorder", 16)? != b"little" {
        return Err("written on a big-endian machine, which is not read".into());
    }
    let (graph, _) = pickle::parse(&zip.entry("data.pkl", MAX_BYTES)?)?;
    Ok((Container::Zip(zip), graph))
}

fn open_sequence(mut file: File) -> Result<(Container, Graph), String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut bytes = Vec::new();
    (&mut file)
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let mut position = SEQUENCE_MAGIC.len();
    let mut next = |what: &str| -> Result<Graph, String> {
        let (graph, length) =
            pickle::parse(&bytes[position..]).map_err(|error| format!("{what}: {error}"))?;
        position += length;
        Ok(graph)
    };
    let version = next("version")?;
    if version.root().int() != Some(SEQUENCE_VERSION) {
        return Err(format!(
            "of version {:?} of torch.save's old format; only {SEQUENCE_VERSION} is known",
            version.root().int()
        ));
    }
    let system = next("system")?;
    if system.root().get("little_endian").and_then(Value::bool) == Some(false) {
        return Err("written on a big-endian machine, which is not read".into());
    }
    let graph = next("object")?;
    let keys = next("list of storages")?;
    let keys = keys.root();
    let keys = keys.elements().ok_or("the list of storages is no list")?;

    let mut sizes = BTreeMap::new();
    for id in graph.persistent() {
        if let (Some(key), Some(class)) = (
            id.element(2).and_then(Value::text),
            id.element(1).and_then(Value::global),
        ) {
            sizes.insert(key.to_string(), element_size(class.1));
        }
    }
    let mut storages = BTreeMap::new();
    let mut offset = position as u64;
    for key in keys {
        let key = key.text().ok_or("a storage whose key is no string")?;
        let Some(Some(element)) = sizes.get(key) else {
            return Err(format!(
                "storage {key:?} has elements of a kind that is not read"
            ));
        };
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut count))
            .map_err(|error| {
                format!("storage {key:?}: {error}; the file is cut short, get it again")
            })?;
        let size = u64::from_le_bytes(count).checked_mul(*element);
        let end = size.and_then(|size| size.checked_add(offset + 8));
        match (size, end) {
            (Some(size), Some(end)) if end <= length => {
                storages.insert(key.to_string(), (offset + 8, size));
                offset = end;
            }
            _ => {
                return Err(format!(
                    "storage {key:?} reaches beyond the end of the file: it is cut short or damaged, get it again"
                ));
            }
        }
    }
    let file = RefCell::new(file);
    Ok((Container::Sequence { file, storages }, graph))
}

/// Bytes per element of `torch.<class>`, also of kinds whose tensors are not read.
fn element_size(class: &str) -> Option<u64> {
    match class {
        "ComplexDoubleStorage" => Some(16),
        "ComplexFloatStorage" => Some(8),
        "QInt32Storage" => Some(4),
        "QInt8Storage" | "QUInt8Storage" => Some(1),
        class => Dtype::of_storage(class).map(|dtype| dtype.size() as u64),
    }
}
