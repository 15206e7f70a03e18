//! `events.out.tfevents.*`: scalars for TensorBoard.
//!
//! A file is a sequence of TFRecords (length, payload, and a masked CRC-32C of each) whose payloads are
//! `Event` messages of tensorflow/core/util/event.proto. Every start of a run begins a new file, as
//! TensorBoard expects of a program that was restarted.

use super::Row;
use crate::{Error, Result};
use prost::Message;
use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// `tensorflow.Event`, the fields that are used here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value`, as a scalar.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: TensorBoard then forgets what earlier files say of this step and later ones.
const START: i32 = 1;

/// The event file of one start of a run.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new file in `run`, whose newest checkpoint is of `step` steps.
    pub(super) fn create(run: &Path, step: usize) -> Result<Self> {
        let began = now().as_secs();
        let mut attempt = 0;
        let (path, file) = loop {
            let name = format!("events.out.tfevents.{began:010}.selfcls.{attempt}");
            let path = run.join(name);
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                // Started twice within a second.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        };
        let mut events = Self { path, file };
        events.put(Event {
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        })?;
        if step > 0 {
            events.put(Event {
                step: step as i64 + 1,
                session_log: Some(SessionLog { status: START }),
                ..Event::default()
            })?;
        }
        Ok(events)
    }

    pub(super) fn append(&mut self, row: &Row) -> Result<()> {
        let (step, values) = scalars(row);
        let value = values
            .into_iter()
            .filter_map(|(tag, value)| {
                Some(Scalar {
                    tag: tag.into(),
                    simple_value: value? as f32,
                })
            })
            .collect();
        self.put(Event {
            step: step as i64,
            summary: Some(Summary { value }),
            ..Event::default()
        })
    }

    fn put(&mut self, event: Event) -> Result<()> {
        let event = Event {
            wall_time: now().as_secs_f64(),
            ..event
        };
        // One write per record, so that TensorBoard never sees half of one.
        self.file
            .write_all(&record(&event.encode_to_vec()))
            .map_err(Error::io("write", &self.path))
    }
}

/// A name and a value, where there is one.
type Named = (Cow<'static, str>, Option<f64>);

/// A row's step and its scalars.
fn scalars(row: &Row) -> (usize, Vec<Named>) {
    match row {
        Row::Step(step) => (
            step.step,
            vec![
                ("step/loss".into(), Some(step.loss)),
                ("step/lr".into(), Some(step.lr)),
                ("step/neighbour_accuracy".into(), step.neighbour_accuracy),
            ],
        ),
        Row::Epoch(epoch) => (
            epoch.step,
            vec![
                ("epoch/loss".into(), Some(epoch.loss)),
                ("epoch/used_classes".into(), Some(epoch.used_classes as f64)),
                ("epoch/neighbour_accuracy".into(), epoch.neighbour_accuracy),
                (
                    "epoch/images_per_second".into(),
                    Some(epoch.images_per_second),
                ),
            ],
        ),
        Row::Monitor(monitor) => {
            let mut values = vec![
                ("monitor/knn".into(), monitor.knn),
                ("monitor/agreement".into(), monitor.agreement),
                ("monitor/seconds".into(), Some(monitor.seconds)),
            ];
            for head in &monitor.heads {
                for (name, value) in [
                    ("nmi", head.nmi),
                    ("ami", head.ami),
                    ("ari", head.ari),
                    ("acc", head.acc),
                    ("used", Some(head.used as f64)),
                    ("effective", Some(head.effective)),
                ] {
                    // By measure first: TensorBoard shows tags with one beginning side by side.
                    values.push((format!("monitor_{name}/head{}", head.head).into(), value));
                }
            }
            (monitor.step, values)
        }
    }
}

fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A TFRecord around `payload`.
fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(payload.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(payload);
    record.extend(masked_crc(payload).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted as TFRecord has it, so that a checksum of checksums means something.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::event::StepEvent;

    #[test]
    fn a_record_is_framed_as_tfrecord() {
        // The first record of every event file that TensorFlow writes, less its time.
        let bytes = record(&[]);
        assert_eq!(&bytes[..8], [0; 8]);
        assert_eq!(bytes.len(), 16);
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720); masked by hand.
        assert_eq!(
            masked_crc(b"123456789"),
            0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    #[test]
    fn a_restart_begins_a_file_that_takes_later_steps_back() {
        let run = tempfile::tempdir().expect("a folder");
        let mut first = EventFile::create(run.path(), 0).expect("created");
        let row = Row::Step(StepEvent {
            epoch: 1,
            step: 10,
            loss: 2.5,
            lr: 0.1,
            neighbour_accuracy: None,
        });
        first.append(&row).expect("appended");
        let second = EventFile::create(run.path(), 7).expect("created");
        assert_ne!(first.path, second.path);

        let events = read(&first.path);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(events[1].step, 10);
        let values = &events[1].summary.as_ref().expect("a summary").value;
        let tags: Vec<_> = values
            .iter()
            .map(|v| (v.tag.as_str(), v.simple_value))
            .collect();
        assert_eq!(tags, [("step/loss", 2.5), ("step/lr", 0.1)]);
        let restarted = &read(&second.path)[1];
        assert_eq!(restarted.step, 8);
        assert_eq!(restarted.session_log, Some(SessionLog { status: START }));
    }

    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).expect("read");
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")) as usize;
            let payload = &rest[12..12 + length];
            assert_eq!(record(payload), &rest[..16 + length]);
            events.push(Event::decode(payload).expect("an event"));
            rest = &rest[16 + length..];
        }
        events
    }
}
