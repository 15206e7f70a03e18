//! Job scripts: the examples in the repository, and what bash makes of any argument.

use super::ran::{Ran, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scripts under `examples/slurm`, with the arguments that make them.
const EXAMPLES: [(&str, &[&str]); 3] = [
    (
        "1-gpu.sbatch",
        &[
            "imagenet-1gpu",
            "--nodes",
            "1",
            "--gpus-per-node",
            "1",
            "--",
            "--train.precision",
            "bf16",
        ],
    ),
    (
        "1-node-4-gpus.sbatch",
        &[
            "paper/train_100ep_bs_256",
            "--nodes",
            "1",
            "--gpus-per-node",
            "4",
        ],
    ),
    (
        "4-nodes-4-gpus.sbatch",
        &[
            "paper/train_100ep",
            "--nodes",
            "4",
            "--gpus-per-node",
            "4",
            "--",
            "--train.precision",
            "bf16",
        ],
    ),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/slurm")
}

fn slurm(args: &[&str]) -> Ran {
    run(&[&["slurm"], args].concat())
}

/// SELFCLS_WRITE_EXAMPLES=1 writes them anew.
#[test]
fn the_examples_are_what_the_command_prints() {
    let update = std::env::var_os("SELFCLS_WRITE_EXAMPLES").is_some();
    let mut names = Vec::new();
    for (name, args) in EXAMPLES {
        let script = slurm(args).succeeded();
        let path = examples().join(name);
        if update {
            fs::write(&path, &script).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        assert!(
            kept == script,
            "{name} is not what `selfcls-cli slurm {}` prints:\n{script}",
            args.join(" ")
        );
        names.push(name.to_owned());
    }
    let entries = fs::read_dir(examples()).unwrap();
    let mut there: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, names);
}

/// Programs that take the place of Slurm's: `srun` notes its arguments, writes a checkpoint of `$STEP` and ends with `$CODE`;
/// `scontrol` shows `$JOB`, and notes its arguments where it is to do something.
struct Cluster(tempfile::TempDir);

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = "if [ -n \"$STEP\" ]; then mkdir -p \"$OUT/checkpoints/step-$STEP\"; fi";
        for (name, before, after) in [
            ("srun", checkpoint, "exit ${CODE:-0}"),
            (
                "scontrol",
                "if [ \"$1\" = show ]; then echo \"$JOB\"; exit; fi",
                "",
            ),
        ] {
            let path = folder.path().join(name);
            let text = format!(
                "#!/bin/bash\n{before}\nprintf '%s\\0' \"$@\" > \"$NOTES/{name}.args\"\n{after}\n"
            );
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    /// Runs a script as the batch step of job 42.
    fn batch(&self, script: &str, variables: &[(&str, &str)]) -> Ran {
        let file = self.0.path().join("job.sbatch");
        fs::write(&file, script).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash");
        bash.arg(&file)
            .current_dir(self.0.path())
            .env("PATH", format!("{}:{path}", self.0.path().display()))
            .env("NOTES", self.0.path())
            .env("SLURM_JOB_ID", "42")
            .env_remove("DATA")
            .env_remove("OUT")
            .envs(variables.iter().copied());
        bash.output().unwrap().into()
    }

    /// The arguments that `program` was given; `None` if it was not run. Forgets them.
    fn arguments(&self, program: &str) -> Option<Vec<String>> {
        let path = self.0.path().join(format!("{program}.args"));
        let text = fs::read_to_string(&path).ok()?;
        fs::remove_file(path).unwrap();
        Some(text.split_terminator('\0').map(String::from).collect())
    }
}

#[test]
fn hostile_arguments_arrive_as_they_were_typed() {
    const HOSTILE: [&str; 8] = [
        "a b",
        "it's",
        "$(touch pwned)",
        "`touch pwned`",
        "\"; touch pwned; \"",
        "*",
        "~/x\\",
        "a & | > ! # ä",
    ];
    let cluster = Cluster::new();
    for word in HOSTILE {
        let prefix = format!("apptainer exec --nv '{}'", word.replace('\'', "'\\''"));
        let script = slurm(&[
            "photos",
            "--nodes",
            "1",
            "--gpus-per-node",
            "1",
            "--data",
            word,
            "--out",
            word,
            "--program",
            word,
            "--prefix",
            &prefix,
            "--",
            "--data.classes_file",
            word,
        ])
        .succeeded();
        let ran = cluster.batch(&script, &[]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{word}");
        let data = format!("--data={word}");
        let out = format!("--out={word}");
        let expected = [
            "--kill-on-bad-exit=1",
            "--cpus-per-task=8",
            "apptainer",
            "exec",
            "--nv",
            word,
            word,
            "train",
            &data,
            &out,
            "--preset",
            "photos",
            "--backend",
            "tch:cuda",
            "--data.classes_file",
            word,
        ];
        assert_eq!(cluster.arguments("srun").unwrap(), expected, "{word}");
    }
    assert!(!cluster.0.path().join("pwned").exists());
}

/// It is no shell that reads it, here or there.
#[test]
fn a_prefix_is_not_expanded() {
    let cluster = Cluster::new();
    let one = ["photos", "--nodes", "1", "--gpus-per-node", "1"];
    let script = slurm(&[&one[..], &["--prefix", "env X=$HOME ~/run \"*\""]].concat()).succeeded();
    let ran = cluster.batch(&script, &[("DATA", "/photos")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let arguments = cluster.arguments("srun").unwrap();
    let expected = ["env", "X=$HOME", "~/run", "*", "selfcls-cli", "train"];
    assert!(
        arguments
            .windows(expected.len())
            .any(|words| words == expected),
        "{arguments:?}"
    );
}

/// What Slurm says of a job: one that was preempted in this start, in an earlier one, and in none.
const PREEMPTED: &str =
    "JobId=42 StartTime=2026-11-29T23:40:26 EndTime=Unknown PreemptTime=2026-11-29T23:40:30 X=1";
const PREEMPTED_BEFORE: &str =
    "JobId=42 StartTime=2026-11-29T23:50:00 EndTime=Unknown PreemptTime=2026-11-29T23:40:30 X=1";
const NOT_PREEMPTED: &str =
    "JobId=42 StartTime=2026-11-29T23:40:26 EndTime=Unknown PreemptTime=None X=1";

#[test]
fn a_job_that_made_room_goes_back_into_the_queue_and_no_other() {
    let cluster = Cluster::new();
    let script = slurm(&["photos", "--nodes", "2", "--gpus-per-node", "2"]).succeeded();
    // Exit code of the step, checkpoint that it wrote (of those before, the newest is 10), what Slurm says.
    for (code, step, job, requeued) in [
        ("0", "00000011", NOT_PREEMPTED, false),
        ("0", "00000012", PREEMPTED, false),
        ("75", "00000013", NOT_PREEMPTED, true),
        // It would do as much the next time: nothing.
        ("75", "00000013", NOT_PREEMPTED, false),
        ("75", "", NOT_PREEMPTED, false),
        ("75", "", PREEMPTED, true),
        // A wrapper died of SIGUSR1.
        ("138", "00000014", NOT_PREEMPTED, true),
        ("138", "", NOT_PREEMPTED, false),
        // Somebody's `kill -TERM`, and Slurm's.
        ("130", "00000015", NOT_PREEMPTED, false),
        ("130", "00000016", PREEMPTED, true),
        ("130", "00000017", PREEMPTED_BEFORE, false),
        ("130", "", "N/A", false),
        ("143", "", PREEMPTED, true),
        ("1", "00000018", NOT_PREEMPTED, false),
        ("137", "00000019", NOT_PREEMPTED, false),
    ] {
        let variables = [
            ("CODE", code),
            ("STEP", step),
            ("JOB", job),
            ("DATA", "/photos"),
            ("OUT", "there"),
        ];
        let ran = cluster.batch(&script, &variables);
        let case = format!("{code} {step:?} {job}: {}", ran.stderr);
        assert_eq!(
            ran.code.map(|code| code.to_string()).as_deref(),
            Some(code),
            "{case}"
        );
        let arguments = cluster.arguments("srun").unwrap();
        for expected in ["--label", "--data=/photos", "--out=there"] {
            assert!(
                arguments.iter().any(|argument| argument == expected),
                "{arguments:?}"
            );
        }
        let expected = requeued.then(|| vec!["requeue".to_owned(), "42".to_owned()]);
        assert_eq!(cluster.arguments("scontrol"), expected, "{case}");
        let explained = ran.stderr.contains("not put back into the queue");
        let stuck = ["75", "138"].contains(&code) && !requeued;
        assert_eq!(explained, stuck, "{case}");
    }
    // Without data nothing is started.
    let ran = cluster.batch(&script, &[]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("DATA: is not set"), "{}", ran.stderr);
    assert_eq!(cluster.arguments("srun"), None);
}

#[test]
fn what_no_job_could_do_is_refused() {
    let one = ["--nodes", "1", "--gpus-per-node", "1"];
    let many = ["--nodes", "32", "--gpus-per-node", "8"];
    let most = usize::MAX.to_string();
    let uncounted = ["--nodes", &most, "--gpus-per-node", "2"];
    let cases: [(&[&str], &[&str], &[&str]); 15] = [
        (&["nope"], &one, &["nope"]),
        (
            &["photos"],
            &uncounted,
            &["--nodes", &most, "2 ranks each", "fewer"],
        ),
        (
            &["photos"],
            &many,
            &[
                "batch_size = 512 in 4 parts",
                "256 ranks",
                "--train.batch_size B",
            ],
        ),
        (
            &["photos", "--ranks-per-node", "2"],
            &one,
            &["--ranks-per-node 2", "--gpus-per-node 1"],
        ),
        (
            &["paper/train_100ep"],
            &["--nodes", "8", "--gpus-per-node", "8"],
            &["train.syncbn_group_size = 22", "64 ranks", "hint: "],
        ),
        (
            &["photos", "--data", "a\nb"],
            &one,
            &["--data \"a\\nb\"", "line break"],
        ),
        (
            &["photos", "--partition", "a b"],
            &one,
            &["\"a b\"", "--partition"],
        ),
        (&["photos", "--time", "soon"], &one, &["--time", "soon"]),
        (
            &["photos", "--sbatch", "nodes=7"],
            &one,
            &["nodes=7", "sets --nodes itself"],
        ),
        (
            &["photos", "--sbatch", "no-requeue"],
            &one,
            &["no-requeue", "back into the queue", "hint: without it"],
        ),
        (
            &["photos", "--sbatch", "output"],
            &one,
            &["\"output\"", "--sbatch output=VALUE"],
        ),
        (&["photos", "--grace", "0"], &one, &["--grace"]),
        (
            &["photos", "--grace", "120", "--time", "2"],
            &one,
            &["--grace 120", "--time 2", "more time"],
        ),
        (
            &["photos", "--prefix", "apptainer 'exec"],
            &one,
            &["--prefix \"apptainer 'exec\"", "quotation"],
        ),
        (
            &["photos"],
            &[
                "--nodes",
                "1",
                "--gpus-per-node",
                "1",
                "--",
                "--optim.lr",
                "-1",
            ],
            &["optim.lr = -1"],
        ),
    ];
    for (first, second, parts) in cases {
        slurm(&[first, second].concat()).failed(2, parts);
    }
}

/// The last of several lines counts for sbatch: so there is one.
#[test]
fn the_log_is_where_the_user_wants_it() {
    let one = ["photos", "--nodes", "1", "--gpus-per-node", "1"];
    let directives = |options: &[&str]| {
        let options = options.iter().flat_map(|option| ["--sbatch", option]);
        let script = slurm(&one.iter().copied().chain(options).collect::<Vec<_>>()).succeeded();
        let lines = script
            .lines()
            .filter_map(|line| line.strip_prefix("#SBATCH --"));
        let of_the_log = lines.filter(|line| {
            ["output", "open-mode"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        of_the_log.map(str::to_owned).collect::<Vec<_>>()
    };
    let default = ["open-mode=append", "output=%x-%j.log"];
    assert_eq!(directives(&["mem=0"]), default);
    let output = "output=/logs/%j.txt";
    assert_eq!(directives(&[output]), [output, default[0]]);
    let mode = "open-mode=truncate";
    assert_eq!(directives(&[mode, output]), [mode, output]);
}

#[test]
fn processors_alone_and_further_options() {
    let script = slurm(&[
        "photos",
        "--nodes",
        "2",
        "--gpus-per-node",
        "0",
        "--ranks-per-node",
        "2",
        "--cpus-per-rank",
        "1",
        "--time",
        "1-12",
        "--partition",
        "cpu",
        "--account",
        "me",
        "--sbatch",
        "mem=0",
        "--sbatch",
        "exclusive",
        "--grace",
        "60",
    ])
    .succeeded();
    for line in [
        "# photos on 2 nodes: 4 ranks of 128 images, 512 in all. Written by `selfcls-cli slurm`.",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --time=1-12",
        "#SBATCH --partition=cpu",
        "#SBATCH --account=me",
        "#SBATCH --mem=0",
        "#SBATCH --exclusive",
        "#SBATCH --signal=USR1@60",
        "    --backend tch:cpu",
    ] {
        assert!(
            script.lines().any(|shown| shown == line),
            "no {line:?} in:\n{script}"
        );
    }
    assert!(!script.contains("gpus-per-node"), "{script}");
}
