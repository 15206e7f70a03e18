//! The service as its clients meet it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long a test waits for one thing, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service in a process of its own.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn new(arguments: &[&str]) -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shapes.onnx");
        let mut child = Command::new(env!("CARGO_BIN_EXE_selfcls-http-service"))
            .arg(model)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://").map(str::to_owned))
            .expect("says where it listens");
        // Somebody has to read what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Status and body of the answer to a request.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .expect("sent");
        // Who is refused need not be listened to to the end.
        let _ = stream.write_all(body);
        answer(stream)
    }

    /// Statuses of the answers to so many clients who send `photo` at the same time.
    fn ask_at_once(&self, clients: usize, photo: &[u8]) -> Vec<u16> {
        let ready = Barrier::new(clients);
        std::thread::scope(|scope| {
            let ask = || {
                ready.wait();
                self.ask("POST", "/classify", photo).0
            };
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
            let statuses = clients.into_iter().map(|client| client.join());
            statuses.map(|status| status.expect("a client")).collect()
        })
    }

    /// The most memory that it has had, where the system tells.
    fn peak_mib(&self) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib / 1024)
    }

    /// Waits until so many requests are under way.
    fn has(&self, requests: usize) {
        let said = format!("\"requests\":{requests}");
        let there = || self.ask("GET", "/healthz", b"").1.contains(&said);
        wait_until(&said, there);
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-TERM", &id]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so, and not for ever.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < PATIENCE, "no {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), text)
}

fn photo() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../disc.png");
    std::fs::read(path).expect("an image")
}

#[test]
fn images_are_classified_and_everything_else_is_an_error() {
    let service = Running::new(&["--max-body", "1"]);
    let (status, text) = service.ask("POST", "/classify", &photo());
    assert_eq!(status, 200, "{text}");
    let json = text.split("\r\n\r\n").nth(1).expect("a body");
    assert!(json.starts_with("{\"class\":"), "{json}");
    assert!(json.matches("\"probability\":").count() == 6, "{json}");

    let (status, text) = service.ask("GET", "/healthz", b"");
    assert!(status == 200 && text.contains("\"queue\":64"), "{text}");
    for (method, path, body, expected, said) in [
        (
            "POST",
            "/classify",
            &b"no image"[..],
            422,
            "not a readable image",
        ),
        ("POST", "/classify", &[], 422, "not a readable image"),
        (
            "POST",
            "/classify",
            &[0; (1 << 20) + 1],
            413,
            "larger than 1048576",
        ),
        ("GET", "/classify", &[], 405, ""),
        ("GET", "/etc/passwd", &[], 404, ""),
    ] {
        let (status, text) = service.ask(method, path, body);
        assert_eq!(status, expected, "{method} {path}: {text}");
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(service.ask("POST", "/classify", &photo()).0, 200);
}

/// Of a kilobyte that claims to be a huge picture.
#[test]
fn images_are_as_large_as_allowed() {
    // The head of a PNG file of 8-bit colours, and no more: what is too large is refused before that is missed.
    let png = |width: u32, height: u32| {
        let mut head = b"IHDR".to_vec();
        head.extend([width, height].map(u32::to_be_bytes).concat());
        head.extend([8, 2, 0, 0, 0]);
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        bytes.extend(&head);
        bytes.extend(checksum(&head).to_be_bytes());
        // The chunk whose contents would be the pixels.
        bytes.extend(b"\0\0\0\x01IDAT");
        bytes
    };
    let service = Running::new(&[]);
    let (status, text) = service.ask("POST", "/classify", &png(10_000, 6_401));
    assert_eq!(status, 422, "{text}");
    for part in ["10000 x 6401 pixels", "192030000 bytes", "192000000"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // Small enough, and otherwise broken.
    let (status, text) = service.ask("POST", "/classify", &png(10_000, 6_400));
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("not a readable image"), "{text}");
    assert_eq!(service.ask("POST", "/classify", &photo()).0, 200);

    let narrow = Running::new(&["--max-megapixels", "0"]);
    let (status, text) = narrow.ask("POST", "/classify", &photo());
    assert_eq!(status, 422, "{text}");
    assert!(text.contains(" and 0 is the most"), "{text}");
}

/// CRC-32 as PNG has it.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), step)
    })
}

#[test]
fn a_full_service_says_so_at_once() {
    let service = Running::new(&["--queue", "2", "--patience", "15"]);
    let photo = photo();
    // Two clients that begin and do not go on.
    let half: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = service.connect();
            let head = "POST /classify HTTP/1.1\r\nHost: test\r\nConnection: close";
            write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n", photo.len()).expect("sent");
            stream.write_all(&photo[..10]).expect("sent");
            stream
        })
        .collect();
    service.has(2);
    let started = Instant::now();
    let (status, text) = service.ask("POST", "/classify", &photo);
    assert_eq!(status, 503, "{text}");
    assert!(text.to_lowercase().contains("retry-after: 1"), "{text}");
    // Before it loses patience with anybody.
    assert!(started.elapsed() < Duration::from_secs(10));
    // One goes on after all; of the other the service loses patience.
    let mut half = half.into_iter();
    let mut late = half.next().expect("the first");
    late.write_all(&photo[10..]).expect("sent");
    assert_eq!(answer(late).0, 200);
    assert_eq!(answer(half.next().expect("the second")).0, 408);
    assert_eq!(service.ask("POST", "/classify", &photo).0, 200);
}

#[cfg(unix)]
#[test]
fn told_to_stop_it_answers_what_is_under_way() {
    let mut service = Running::new(&[]);
    let photo = photo();
    let mut stream = service.connect();
    let head = "POST /classify HTTP/1.1\r\nHost: test\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n", photo.len()).expect("sent");
    stream.write_all(&photo[..10]).expect("sent");
    service.has(1);
    service.terminate();
    // It takes no more.
    let refuses = || TcpStream::connect(&service.address).is_err();
    wait_until("refusal", refuses);
    stream.write_all(&photo[10..]).expect("sent");
    assert_eq!(answer(stream).0, 200);
    assert!(service.child.wait().expect("ends").success());
}

/// Many clients at a time: everybody gets an answer, and memory stays about where it was.
#[test]
fn a_crowd_is_served_or_told_to_come_back() {
    let service = Running::new(&["--queue", "4", "--threads", "2"]);
    let photo = photo();
    // With both threads at work.
    for _ in 0..4 {
        assert_eq!(service.ask_at_once(2, &photo), [200, 200]);
    }
    let before = service.peak_mib();
    let statuses = service.ask_at_once(32, &photo);
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
    if let (Some(before), Some(after)) = (before, service.peak_mib()) {
        assert!(after < before + 64, "{before} and {after} MiB");
    }
}
