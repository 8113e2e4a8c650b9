//! Recordings: `run --record`, and `pointsman policy replay`.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::values as parse;
use super::workbench::{Progress, ReportArgs, finish};
use super::{inspect, setup};
use crate::engine::Record;
use crate::observe::recording::MIN_LIMIT_BYTES;
use crate::policy::compile::Compiler;
use crate::policy::tape::{Clients, PseudonymKey, Terms};
use crate::policy::{Limits, Runtime, Sandbox};
use crate::workbench::components::{self, Components};
use crate::workbench::diff::{self, Candidate, Comparison};
use crate::workbench::recording::{Recording, export};
use crate::workbench::replay;
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

/// What `run` records.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordArgs {
    /// Record decisions into this file, for `policy replay` and `policy diff`; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Record one connection in so many, like 1/100; only a recording of all can be replayed exactly
    #[arg(long, value_name = "1/N", default_value = "1/1", value_parser = sample, requires = "record")]
    pub record_sample: NonZeroU32,
    /// The recording ends at this size
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse::size, requires = "record")]
    pub record_limit: u64,
    /// How clients' addresses are recorded
    #[arg(long, value_name = "HOW", default_value = "plain", requires = "record")]
    pub record_clients: RecordClients,
    /// The key of hashed clients, so that recordings agree on them [default: a key that is forgotten]
    #[arg(long, value_name = "FILE", requires = "record")]
    pub record_key_file: Option<PathBuf>,
}

/// How clients are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordClients {
    /// their addresses
    Plain,
    /// a keyed hash of each; needs --hash-secret-file, since `client-hash` is recorded too
    Hashed,
}

impl RecordArgs {
    /// What the engine is told. `secret_hash`: the key of `client-hash` is a secret.
    pub(super) fn options(&self, secret_hash: bool) -> anyhow::Result<Option<Record>> {
        let Some(file) = self.record.clone() else { return Ok(None) };
        ensure!(self.record_limit >= MIN_LIMIT_BYTES, "--record-limit: a recording needs at least {} MiB", MIN_LIMIT_BYTES >> 20);
        let clients = match (self.record_clients, &self.record_key_file) {
            (RecordClients::Plain, None) => Clients::Plain,
            (RecordClients::Plain, Some(_)) => bail!("--record-key-file is for hashed clients: add --record-clients hashed"),
            (RecordClients::Hashed, _) if !secret_hash => bail!(
                "--record-clients hashed needs --hash-secret-file: `client-hash` is in the recording, and with the public key anybody can find \
                 the address that it is the hash of"
            ),
            (RecordClients::Hashed, None) => Clients::Hashed(PseudonymKey::new(fastrand::u64(..), fastrand::u64(..))),
            (RecordClients::Hashed, Some(file)) => Clients::Hashed(PseudonymKey::from_secret(&setup::secret("--record-key-file", file)?)),
        };
        let terms = Terms { sample: self.record_sample, clients };
        Ok(Some(Record { file, limit_bytes: self.record_limit, terms }))
    }
}

/// `1/100`.
fn sample(text: &str) -> Result<NonZeroU32, String> {
    let one_in = text.strip_prefix("1/").and_then(|one_in| one_in.parse().ok());
    one_in.ok_or_else(|| "expected one in so many, like 1/100; 1/1 is all of them".to_owned())
}

/// What `policy replay` is told.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct ReplayArgs {
    /// What `run --record` wrote
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// The components that decided, where they are not built in; found by their digest
    #[arg(value_name = "COMPONENT")]
    pub components: Vec<PathBuf>,
    /// Replay nothing: print what is in the recording
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["components", "format", "html"])]
    pub export: Option<ExportFormat>,
    /// How the report is written.
    #[command(flatten)]
    pub output: ReportArgs,
}

const REPLAY_EXAMPLES: &str = "\
Ends with 0 if every answer is the recorded one, with 1 if there are differences, with 2 if it cannot be replayed.

Examples:
  pointsman policy replay day.rec
  pointsman policy replay day.rec my-balancer.wasm -o json
  pointsman policy replay day.rec --export jsonl | head";

/// What a recording can be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// a JSON object a line
    Jsonl,
}

/// `pointsman policy replay`.
///
/// # Errors
/// It could not run.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let recording = open(&args.recording)?;
    if args.export.is_some() {
        let mut out = BufWriter::new(io::stdout().lock());
        return match export::jsonl(&recording, &mut out).and_then(|()| Ok(out.flush()?)) {
            // Nobody reads the rest.
            Err(export::ExportError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(export::ExportError::Io(error)) => Err(error).context("writing to standard output"),
            Err(error) => Err(error).with_context(|| args.recording.display().to_string()),
            Ok(()) => Ok(ExitCode::SUCCESS),
        };
    }
    let limits = components::limits(&recording.header);
    let mut components = Components::default();
    for path in &args.components {
        let path = path.display().to_string();
        components.add(&path, read(&path, &limits)?.1);
    }
    let sandbox = Sandbox::new(limits, Compiler::of_this_program())?;
    let mut progress = Progress::new("percent");
    let report = replay::replay(&recording, &sandbox, &components, &mut |done, of| progress.at(done * 100 / of.max(1), 100));
    drop(progress);
    finish(report.with_context(|| args.recording.display().to_string())?, &args.output)
}

/// What `policy diff` is told.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// What `run --record` wrote
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// What is compared with: `live` is what was recorded; else a file or a built-in balancer
    #[arg(long, value_name = "live|FILE|NAME", default_value = "live")]
    pub a: String,
    /// What is tried: a file, or a built-in balancer
    #[arg(long, value_name = "FILE|NAME")]
    pub b: String,
    /// Candidates may bring a language runtime along (`run --large-policy NAME`)
    #[arg(long)]
    pub large: bool,
    /// Let each side have the loads that its own picks bring about, instead of those that were recorded
    #[arg(long)]
    pub closed_loop: bool,
    /// How the report is written.
    #[command(flatten)]
    pub output: ReportArgs,
}

const DIFF_EXAMPLES: &str = "\
Ends with 0, with 1 if a balancer that is tried faults, with 2 if nothing can be compared.

Examples:
  pointsman policy diff day.rec --b maglev
  pointsman policy diff day.rec --b my-balancer.wasm --closed-loop
  pointsman policy diff day.rec --a maglev --b my-balancer.wasm -o json";

/// `pointsman policy diff`.
///
/// # Errors
/// It could not run.
pub(super) fn compare(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let recording = open(&args.recording)?;
    let limits = components::limits(&recording.header);
    let a = if args.a == "live" { None } else { Some(read(&args.a, &limits)?) };
    let b = read(&args.b, &limits)?;
    let runtime = if args.large { Runtime::Large } else { Runtime::Normal };
    let candidate = |(name, bytes)| Candidate { name, bytes, runtime };
    let a = a.as_ref().map(|(name, bytes)| candidate((name.as_str(), bytes.as_slice())));
    let comparison = Comparison { a, b: candidate((b.0.as_str(), b.1.as_slice())), closed_loop: args.closed_loop };
    let sandbox = Sandbox::new(limits, Compiler::of_this_program())?;
    let mut progress = Progress::new("percent");
    let report = diff::diff(&recording, &sandbox, &comparison, &mut |done, of| progress.at(done * 100 / of.max(1), 100));
    drop(progress);
    finish(report.with_context(|| args.recording.display().to_string())?, &args.output)
}

/// The policy's name for the report, and its bytes, as far as a host with these limits takes any.
fn read(component: &str, limits: &Limits) -> anyhow::Result<(String, Vec<u8>)> {
    let (name, bytes) = inspect::read(component, &limits.large())?;
    Ok((name, bytes?))
}

fn open(path: &Path) -> anyhow::Result<Recording> {
    Recording::open(path).with_context(|| path.display().to_string())
}
