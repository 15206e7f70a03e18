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
//!
//! With `--side N` instead of `--data` the images are in memory, N pixels high and wide, as those of CIFAR are in a
//! training: 2 global views of N pixels, no local ones unless asked for. The peer is then called with a file of their
//! pixels, `[count, N, N, 3]` bytes, for FOLDER, and with `--side N`; nothing is decoded on either side.

use clap::Parser;
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use selfcls_benches::figures::{Better, Turns};
use selfcls_benches::peer;
use selfcls_core::config::ViewsConfig;
use selfcls_core::data::{Shapes, Source, images_in, is_image_name, read};
use selfcls_core::pixels::Rgb8;
use selfcls_core::views::Recipe;
use serde_json::{Value, json};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tempfile::NamedTempFile;

/// Images (all views of each) per second, ours beside a Python peer.
#[derive(Parser)]
struct Args {
    /// A folder of JPEG files, searched recursively.
    #[arg(long, required_unless_present = "side")]
    data: Option<PathBuf>,
    /// Instead of files: the side, in pixels, of images in memory.
    #[arg(long, conflicts_with = "data", value_parser = clap::value_parser!(u16).range(1..=4096))]
    side: Option<u16>,
    #[command(flatten)]
    common: CommonArgs,
    /// The peer's pipelines; one case each. By default albumentations, torchvision and, of files, decode.
    #[arg(long, value_delimiter = ',')]
    pipelines: Vec<String>,
    /// Images per run; a smaller folder is gone through several times.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Side of a global view in pixels; by default 224, or --side.
    #[arg(long)]
    global_size: Option<usize>,
    /// Side of a local view in pixels.
    #[arg(long, default_value_t = 96)]
    local_size: usize,
    /// Local views per image; by default 6, or none with --side.
    #[arg(long)]
    locals: Option<usize>,
}

/// What views are made of.
enum Images {
    /// Files in this folder, decoded each time.
    Files(PathBuf, Vec<PathBuf>),
    /// In memory, and once more in this file for the peer.
    Memory(NamedTempFile, Vec<Arc<Rgb8>>),
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let images = Images::new(&args)?;
    let side = args.side.map(usize::from);
    let views = ViewsConfig {
        global_size: args.global_size.or(side).unwrap_or(224),
        local_size: args.local_size,
        local_count: args.locals.unwrap_or(if side.is_some() { 0 } else { 6 }),
        ..ViewsConfig::default()
    };
    let pipelines: Vec<&str> = match (&args.pipelines[..], side) {
        ([], None) => vec!["albumentations", "torchvision", "decode"],
        ([], Some(_)) => vec!["albumentations", "torchvision"],
        (chosen, _) => chosen.iter().map(String::as_str).collect(),
    };
    if side.is_some() && pipelines.contains(&"decode") {
        return Err(
            "--pipelines decode needs files (--data): images in memory are decoded already".into(),
        );
    }
    for pipeline in pipelines {
        let case = compare(&args, pipeline, &images, &views)?;
        args.common.print(&case);
    }
    Ok(())
}

impl Images {
    fn new(args: &Args) -> Outcome<Self> {
        let count = args.count.max(1);
        if let Some(folder) = &args.data {
            return Ok(Self::Files(folder.clone(), files(folder, count)?));
        }
        let source = Shapes::new(count, 0, args.side.unwrap_or(32).into());
        let images = (0..count)
            .map(|index| source.image(index))
            .collect::<Result<Vec<_>, _>>()?;
        let mut file = NamedTempFile::new()?;
        for image in &images {
            file.write_all(image.data())?;
        }
        Ok(Self::Memory(file, images))
    }

    fn len(&self) -> usize {
        match self {
            Self::Files(_, files) => files.len(),
            Self::Memory(_, images) => images.len(),
        }
    }

    fn get(&self, number: usize) -> Outcome<Arc<Rgb8>> {
        match self {
            Self::Files(_, files) => Ok(Arc::new(read(&files[number])?)),
            Self::Memory(_, images) => Ok(Arc::clone(&images[number])),
        }
    }

    /// Where the peer finds them.
    fn place(&self) -> &Path {
        match self {
            Self::Files(folder, _) => folder,
            Self::Memory(file, _) => file.path(),
        }
    }
}

/// The JPEG files in the peer's order, repeated up to the count.
fn files(folder: &PathBuf, count: usize) -> Outcome<Vec<PathBuf>> {
    let mut all = images_in(std::slice::from_ref(folder))?.collect::<Result<Vec<_>, _>>()?;
    let is_jpeg = |path: &Path| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        ending.eq_ignore_ascii_case("jpg") || ending.eq_ignore_ascii_case("jpeg")
    };
    all.retain(|path| is_image_name(path) && is_jpeg(path));
    all.sort();
    if all.is_empty() {
        return Err(format!("{} holds no JPEG files", folder.display()).into());
    }
    Ok(all.into_iter().cycle().take(count).collect())
}

/// One case: the sides in turn, `rounds` times.
fn compare(args: &Args, pipeline: &str, images: &Images, views: &ViewsConfig) -> Outcome<Value> {
    let recipe = Recipe::new(views);
    let decode_only = pipeline == "decode";
    let clock = Clock::best();
    let mut turns = Turns::default();
    for _ in args.common.rounds() {
        turns
            .ours
            .push(measure(&clock, images, &recipe, decode_only)?);
        if let Some(mut command) = args.common.peer.command("views.py") {
            command.arg(images.place()).args(["--pipeline", pipeline]);
            if let Some(side) = args.side {
                command.args(["--side", &side.to_string()]);
            }
            for (name, value) in [
                ("--count", images.len()),
                ("--global-size", views.global_size),
                ("--local-size", views.local_size),
                ("--locals", views.local_count),
            ] {
                command.args([name, &value.to_string()]);
            }
            let figures = peer::run(command.env("OMP_NUM_THREADS", "1"))?;
            turns
                .peer
                .push(peer::figure(&figures, clock.peer_figure())?);
        }
    }
    let mut made = format!("2x{}", views.global_size);
    if views.local_count > 0 {
        made += &format!(" + {}x{}", views.local_count, views.local_size);
    }
    let case = json!({
        "bench": "views",
        "case": match (decode_only, args.side) {
            (true, _) => "decode".to_owned(),
            (false, None) => format!("decode and {made}, beside {pipeline}"),
            (false, Some(side)) => format!("{made} of {side} pixels in memory, beside {pipeline}"),
        },
        "images": images.len(),
        "threads": 1,
    });
    let units = format!("images per second of {}", clock.name());
    Ok(turns.report(case, &units, Better::Higher))
}

/// Our images per second. The views go into fresh memory, as they do in a batch.
fn measure(clock: &Clock, images: &Images, recipe: &Recipe, decode_only: bool) -> Outcome<f64> {
    let once = |number: usize| -> Outcome<()> {
        let image = images.get(number)?;
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
    once(0)?;
    let start = clock.seconds()?;
    for number in 0..images.len() {
        once(number)?;
    }
    Ok(images.len() as f64 / (clock.seconds()? - start))
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
