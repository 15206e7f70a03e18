//! State dicts as files of `torch.save`, for `torch.load(..., weights_only=True)`.

use crate::pretrained::pickle::Writer;
use crate::weights::Array;
use rawzip::extra_fields::ExtraFieldId;
use rawzip::{Error, Header, ZipArchiveWriter};
use std::io::Write;

/// PyTorch maps storages into memory, so they begin at multiples of this.
const ALIGNMENT: usize = 64;
/// The extra field that fills the space before an aligned entry, as PyTorch's own files have it.
const PADDING: ExtraFieldId = ExtraFieldId::new(u16::from_le_bytes(*b"FB"));
/// Bytes of a local header without name and extra fields, and of an extra field without its data.
const HEADERS: usize = 30 + 4;

/// What a tensor of a file holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// Numbers, as float32.
    Floats(&'a Array),
    /// One int64.
    Integer(i64),
}

/// The bytes of a `.pth` file with an `OrderedDict` of `entries`, in their order: the file's own value, or that
/// under the key `container` of a dictionary.
///
/// # Errors
/// If the archive cannot be made; writing to memory, it only can be too large.
pub(crate) fn torch_file(
    entries: &[(String, Content<'_>)],
    container: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| -> Result<(), Error> {
        let name = format!("archive/{name}");
        let start = archive.stream_offset() as usize + HEADERS + name.len();
        let padding = vec![b'Z'; start.next_multiple_of(ALIGNMENT) - start];
        let (mut entry, config) = archive
            .new_file(name.as_str())
            .extra_field(PADDING, &padding, Header::LOCAL)?
            .start()?;
        let mut data = config.wrap(&mut entry);
        data.write_all(bytes)?;
        let (_, sizes) = data.finish()?;
        entry.finish(sizes)?;
        Ok(())
    };
    put("data.pkl", &pickled(entries, container))?;
    put("byteorder", b"little")?;
    for (key, (_, content)) in entries.iter().enumerate() {
        let bytes: Vec<u8> = match content {
            Content::Floats(array) => array.data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Content::Integer(value) => value.to_le_bytes().to_vec(),
        };
        put(&format!("data/{key}"), &bytes)?;
    }
    put("version", b"3\n")?;
    archive.finish()
}

fn pickled(entries: &[(String, Content<'_>)], container: Option<&str>) -> Vec<u8> {
    let mut pickle = Writer::new(2);
    match container {
        None => state_dict(&mut pickle, entries),
        Some(key) => {
            pickle.empty_dict().mark().text(key);
            state_dict(&mut pickle, entries);
            pickle.set_items();
        }
    }
    pickle.finish()
}

/// `OrderedDict([(name, tensor), ...])`.
fn state_dict(pickle: &mut Writer, entries: &[(String, Content<'_>)]) {
    pickle
        .global("collections", "OrderedDict")
        .empty_tuple()
        .call()
        .mark();
    for (key, (name, content)) in entries.iter().enumerate() {
        pickle.text(name);
        let (class, shape, length): (_, &[usize], _) = match content {
            Content::Floats(array) => ("FloatStorage", &array.shape, array.data.len()),
            Content::Integer(_) => ("LongStorage", &[], 1),
        };
        // _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)
        pickle.global("torch._utils", "_rebuild_tensor_v2").mark();
        pickle
            .mark()
            .text("storage")
            .global("torch", class)
            .text(&key.to_string())
            .text("cpu")
            .size(length)
            .tuple()
            .persistent();
        pickle
            .size(0)
            .sizes(shape)
            .sizes(&strides(shape))
            .bool(false);
        pickle
            .global("collections", "OrderedDict")
            .empty_tuple()
            .call();
        pickle.tuple().call();
    }
    pickle.set_items();
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}
