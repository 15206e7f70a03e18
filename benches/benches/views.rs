//! Making the views of training images, from file to normalised floats; beside Python pipelines.
//!
//! ```text
//! cargo bench -p selfcls-benches --bench views -- --data FOLDER --peer-python PYTHON --json
//! ```
//!
//! One thread on either side, on the same files, in turn; each figure is the median of `--rounds`. On
//! Linux both sides count processor time, which a busy machine disturbs least, elsewhere wall time. The
//! peer is called as `PYTHON SCRIPT FOLDER --pipeline P --count N --global-size N --local-size N
//! --locals N` for the pipelines `albumentations`, `torchvision` and `decode` (decoding alone, compared
//! with our decoding alone), and prints a JSON object with `cpu_images_per_s` and `wall_images_per_s`.

use clap::Parser;
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use selfcls_benches::figures::{Better, Turns};
use selfcls_benches::peer;
use selfcls_core::config::ViewsConfig;
use selfcls_core::data::{images_in, is_image_name, read};
use selfcls_core::views::Recipe;
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images (all views of each) per second, ours beside a Python peer.
#[derive(Parser)]
struct Args {
    /// A folder of JPEG files, searched recursively.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
    /// The peer's pipelines; one case each.
    #[arg(long, value_delimiter = ',', default_values = ["albumentations", "torchvision", "decode"])]
    pipelines: Vec<String>,
    /// Images per run; a smaller folder is gone through several times.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Side of a global view in pixels.
    #[arg(long, default_value_t = 224)]
    global_size: usize,
    /// Side of a local view in pixels.
    #[arg(long, default_value_t = 96)]
    local_size: usize,
    /// Local views per image.
    #[arg(long, default_value_t = 6)]
    locals: usize,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let files = files(&args)?;
    let recipe = Recipe::new(&ViewsConfig {
        global_size: args.global_size,
        local_size: args.local_size,
        local_count: args.locals,
        ..ViewsConfig::default()
    });
    for pipeline in &args.pipelines {
        let case = compare(&args, pipeline, &files, &recipe)?;
        args.common.print(&case);
    }
    Ok(())
}

/// The JPEG files in the peer's order, repeated up to the count.
fn files(args: &Args) -> Outcome<Vec<PathBuf>> {
    let mut all = images_in(std::slice::from_ref(&args.data))?.collect::<Result<Vec<_>, _>>()?;
    let is_jpeg = |path: &Path| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        ending.eq_ignore_ascii_case("jpg") || ending.eq_ignore_ascii_case("jpeg")
    };
    all.retain(|path| is_image_name(path) && is_jpeg(path));
    all.sort();
    if all.is_empty() {
        return Err(format!("{} holds no JPEG files", args.data.display()).into());
    }
    Ok(all.into_iter().cycle().take(args.count.max(1)).collect())
}

/// One case: the sides in turn, `rounds` times.
fn compare(args: &Args, pipeline: &str, files: &[PathBuf], recipe: &Recipe) -> Outcome<Value> {
    let decode_only = pipeline == "decode";
    let clock = Clock::best();
    let mut turns = Turns::default();
    for _ in args.common.rounds() {
        turns
            .ours
            .push(measure(&clock, files, recipe, decode_only)?);
        if let Some(mut command) = args.common.peer.command("views.py") {
            command.arg(&args.data).args(["--pipeline", pipeline]);
            for (name, value) in [
                ("--count", args.count),
                ("--global-size", args.global_size),
                ("--local-size", args.local_size),
                ("--locals", args.locals),
            ] {
                command.args([name, &value.to_string()]);
            }
            let figures = peer::run(command.env("OMP_NUM_THREADS", "1"))?;
            turns
                .peer
                .push(peer::figure(&figures, clock.peer_figure())?);
        }
    }
    let views = format!(
        "2x{} + {}x{}",
        args.global_size, args.locals, args.local_size
    );
    let case = json!({
        "bench": "views",
        "case": if decode_only { "decode".to_owned() } else { format!("decode and {views}, beside {pipeline}") },
        "images": files.len(),
        "threads": 1,
    });
    let units = format!("images per second of {}", clock.name());
    Ok(turns.report(case, &units, Better::Higher))
}

/// Our images per second. The views go into fresh memory, as they do in a batch.
fn measure(clock: &Clock, files: &[PathBuf], recipe: &Recipe, decode_only: bool) -> Outcome<f64> {
    let once = |number: usize, file: &Path| -> Outcome<()> {
        let image = read(file)?;
        if decode_only {
            black_box(&image);
            return Ok(());
        }
        let mut views: Vec<Vec<f32>> = (0..recipe.count())
            .map(|view| vec![0.0; recipe.view_len(view)])
            .collect();
        let mut outs: Vec<&mut [f32]> = views.iter_mut().map(Vec::as_mut_slice).collect();
        recipe.make_all(&image, 0, 0, number as u64, &mut outs);
        black_box(&views);
        Ok(())
    };
    once(0, &files[0])?;
    let start = clock.seconds()?;
    for (number, file) in files.iter().enumerate() {
        once(number, file)?;
    }
    Ok(files.len() as f64 / (clock.seconds()? - start))
}

/// What time is taken from.
enum Clock {
    /// The processor time of this thread, as Linux accounts for it.
    Processor,
    /// The time since this.
    Wall(Instant),
}

impl Clock {
    const ACCOUNT: &str = "/proc/thread-self/schedstat";

    fn best() -> Self {
        if Path::new(Self::ACCOUNT).exists() {
            Self::Processor
        } else {
            Self::Wall(Instant::now())
        }
    }

    fn seconds(&self) -> Outcome<f64> {
        match self {
            Self::Processor => {
                let account = std::fs::read_to_string(Self::ACCOUNT)?;
                let nanoseconds = account.split_whitespace().next().unwrap_or_default();
                Ok(nanoseconds.parse::<f64>()? * 1e-9)
            }
            Self::Wall(start) => Ok(start.elapsed().as_secs_f64()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Processor => "processor time",
            Self::Wall(_) => "wall time",
        }
    }

    fn peer_figure(&self) -> &'static str {
        match self {
            Self::Processor => "cpu_images_per_s",
            Self::Wall(_) => "wall_images_per_s",
        }
    }
}
