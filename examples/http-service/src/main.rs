//! An exported classifier behind HTTP.
//!
//! ```text
//! POST /classify   an image file as the body; answers with JSON
//! GET  /healthz    200 while the service takes requests
//! ```
//!
//! No more than `--queue` requests are taken at a time: who comes when it is full is told at once to come back
//! (503, `Retry-After`), so that neither memory nor waiting times grow with the crowd. Ctrl-C and SIGTERM let the
//! requests under way finish.

mod service;

use clap::Parser;
use selfcls_export::{Classifier, Options};
use service::{Limits, Service};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// An exported classifier behind HTTP.
#[derive(Parser)]
struct Args {
    /// The model, as `selfcls-cli export` writes it.
    model: PathBuf,
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Requests taken at a time, being read, waiting or answered.
    #[arg(long, default_value_t = 64)]
    queue: usize,
    /// Largest body in MiB.
    #[arg(long, default_value_t = 20)]
    max_body: usize,
    /// Largest image in megapixels, each pixel counted as three bytes or, where it has more, as those: a small file can
    /// be a huge image. The memory of --threads such images must be there.
    #[arg(long, default_value_t = 64)]
    max_megapixels: u64,
    /// Seconds in which a body must have come.
    #[arg(long, default_value_t = 30)]
    patience: u64,
    /// Threads that decode and classify; 0 for all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let threads = match args.threads {
        0 => std::thread::available_parallelism()?.get(),
        threads => threads,
    };
    let options = Options::default()
        .threads(threads)
        .max_image_bytes(args.max_megapixels.saturating_mul(3_000_000));
    let classifier = Classifier::open(&args.model, &options)?;
    eprintln!("engine: {}", classifier.runs_on());
    let limits = Limits {
        queue: args.queue,
        body: args.max_body << 20,
        patience: Duration::from_secs(args.patience),
    };
    let service = Arc::new(Service::new(classifier, limits));
    // Decoding and classifying block; what is waiting for one of these threads waits in order.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await?;
        // Heard from before anybody knows where to ask.
        let told_to_stop = told_to_stop();
        eprintln!("listening on http://{}", listener.local_addr()?);
        axum::serve(listener, service.router())
            .with_graceful_shutdown(told_to_stop)
            .await?;
        Ok(())
    })
}

/// Listens from the call on, and ends with the first Ctrl-C or, as containers send it, SIGTERM.
#[cfg(unix)]
fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async {
        let [Ok(mut interrupted), Ok(mut terminated)] = signals else {
            // Without signals the service can only be killed.
            return std::future::pending().await;
        };
        let interrupted = std::pin::pin!(interrupted.recv());
        let terminated = std::pin::pin!(terminated.recv());
        first(interrupted, terminated).await;
    }
}

/// Ends with the first Ctrl-C.
#[cfg(not(unix))]
async fn told_to_stop() {
    // Without signals the service can only be killed.
    let _ = tokio::signal::ctrl_c().await;
}

/// Waits for either.
#[cfg(unix)]
async fn first<A: Future + Unpin, B: Future + Unpin>(mut a: A, mut b: B) {
    use std::task::Poll;
    std::future::poll_fn(|context| {
        let a = std::pin::Pin::new(&mut a).poll(context).is_ready();
        let b = std::pin::Pin::new(&mut b).poll(context).is_ready();
        if a || b {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
