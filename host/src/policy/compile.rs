//! From a component to machine code. Compiling is where hostile bytes could cost most, and wasmtime does not bound it: so it happens in a
//! child process with limits on memory and time, which does nothing else. Its machine code may be kept in a cache that only this host's
//! key opens.

use std::hash::{Hash, Hasher};
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::sys::resource::{Resource, setrlimit};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

pub use self::cache::Cache;
pub(super) use self::reexport::with_reexports;
use super::engine::{Layout, Sandbox, config};
use super::limits::Limits;
use super::refusal::Refusal;
use crate::sys::artifact;

mod cache;
mod reexport;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// A child of this program, with limits: for components from outside.
    Child {
        /// The program; it must know the subcommand `compile-policy`.
        program: PathBuf,
    },
    /// This process: for components that are trusted, and for tests.
    InProcess,
}

impl Compiler {
    /// A child of the program that is running, even when its file has been replaced since.
    pub fn of_this_program() -> Self {
        Self::Child { program: PathBuf::from("/proc/self/exe") }
    }
}

/// What a compiling child is told: the first line of its standard input; the component follows.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Task {
    /// See `Layout::Small`.
    small_memory: bool,
    /// Processor time.
    seconds: u64,
    /// Address space.
    memory_bytes: u64,
    /// Size of the component.
    component_bytes: u64,
}

/// The hidden subcommand that a compiling child is started with.
pub const SUBCOMMAND: &str = "compile-policy";

impl Sandbox {
    /// Machine code for a component from outside: cached, else from the compiler.
    pub(super) fn compile(&self, bytes: &[u8], limits: &Limits) -> Result<Component, Refusal> {
        let Compiler::Child { program } = &self.compiler else { return self.compile_trusted(bytes) };
        let key = self.artifact_name(bytes);
        let cached = self.cache.as_ref().and_then(|cache| cache.read(&key));
        if let Some(component) = cached.and_then(|code| artifact::component(&self.engine, &code).ok()) {
            return Ok(component);
        }
        let code = compile_in_child(program, bytes, self.layout, limits)?;
        let component = artifact::component(&self.engine, &code).map_err(refused)?;
        if let Some(cache) = &self.cache {
            cache.write(&key, &code);
        }
        Ok(component)
    }

    /// Machine code for a component that is part of this program.
    pub(super) fn compile_trusted(&self, bytes: &[u8]) -> Result<Component, Refusal> {
        Component::from_binary(&self.engine, &with_reexports(bytes)).map_err(refused)
    }

    /// The component, wasmtime's version, every setting that shapes the code, and how the component is rewritten.
    fn artifact_name(&self, bytes: &[u8]) -> String {
        let mut hash = ShaHasher(Sha256::new());
        hash.0.update(reexport::VERSION);
        self.engine.precompile_compatibility_hash().hash(&mut hash);
        hash.0.update(bytes);
        hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the child does: reads the component, compiles it, writes the machine code. The limits are its own, so that no code runs between
/// fork and exec.
///
/// # Errors
/// Whatever keeps it from compiling; the parent reads the text from standard error.
pub fn serve() -> Result<(), Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::Sandbox(error.to_string());
    let mut stdin = std::io::stdin().lock();
    let mut task = String::new();
    stdin.by_ref().take(TASK_BYTES).read_line(&mut task).map_err(|e| failed(&e))?;
    let task: Task = serde_json::from_str(&task).map_err(|e| failed(&e))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| failed(&e))?;
    setrlimit(Resource::RLIMIT_AS, task.memory_bytes, task.memory_bytes).map_err(|e| failed(&e))?;
    setrlimit(Resource::RLIMIT_CPU, task.seconds, task.seconds).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    stdin.take(task.component_bytes).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    let layout = if task.small_memory { Layout::Small } else { Layout::Pool };
    let engine = Engine::new(&config(&Limits::default(), layout)).map_err(|e| failed(&e))?;
    let code = engine.precompile_component(&with_reexports(&bytes)).map_err(refused)?;
    std::io::stdout().lock().write_all(&code).map_err(|e| failed(&e))
}

fn compile_in_child(program: &Path, bytes: &[u8], layout: Layout, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let task = Task {
        small_memory: layout == Layout::Small,
        seconds: limits.compile_time.as_secs(),
        memory_bytes: limits.compile_memory_bytes,
        component_bytes: bytes.len() as u64,
    };
    let mut input = serde_json::to_vec(&task).map_err(|error| Refusal::Sandbox(error.to_string()))?;
    input.push(b'\n');
    input.extend_from_slice(bytes);
    let mut child = command.spawn().map_err(|error| Refusal::file(program, &error))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let outcome = std::thread::scope(|scope| {
        let (done, result) = mpsc::channel();
        scope.spawn(move || done.send(exchange(pipes, &input)));
        let outcome = result.recv_timeout(limits.compile_time);
        if outcome.is_err() {
            // The exchange ends with the pipes.
            stop(&mut child);
        }
        outcome
    });
    let status = child.wait().map_err(|error| Refusal::file(program, &error))?;
    match outcome {
        Err(_) => Err(Refusal::Compile(format!("it took more than {} s", limits.compile_time.as_secs()))),
        Ok(Err(error)) => Err(Refusal::Compile(format!("the compiling process could not be talked to: {error}"))),
        Ok(Ok((code, _))) if status.success() => Ok(code),
        Ok(Ok((_, text))) => Err(Refusal::Compile(reason(status, &text, limits))),
    }
}

fn stop(child: &mut Child) {
    if let Err(error) = child.kill() {
        tracing::warn!("a compiling process could not be stopped: {error}");
    }
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

/// The child reads all before it writes, so neither side waits for the other. One that dies early leaves a broken pipe, and its reason on
/// standard error.
fn exchange((stdin, stdout, stderr): Pipes, bytes: &[u8]) -> std::io::Result<(Vec<u8>, String)> {
    let mut code = Vec::new();
    let mut text = Vec::new();
    if let Some(mut stdin) = stdin {
        match stdin.write_all(bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    if let Some(stdout) = stdout {
        stdout.take(MACHINE_CODE_BYTES).read_to_end(&mut code)?;
    }
    if let Some(stderr) = stderr {
        stderr.take(REASON_BYTES).read_to_end(&mut text)?;
    }
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}

/// A component of 2 MiB makes some 10 MiB of machine code.
const MACHINE_CODE_BYTES: u64 = 256 << 20;
const REASON_BYTES: u64 = 4096;
const TASK_BYTES: u64 = 4096;

fn reason(status: ExitStatus, text: &str, limits: &Limits) -> String {
    use std::os::unix::process::ExitStatusExt;
    let text = text.trim().trim_start_matches("Error: ");
    match status.signal() {
        Some(signal) if signal == libc::SIGXCPU || signal == libc::SIGKILL => {
            format!("it took more than {} s of processor time", limits.compile_time.as_secs())
        }
        Some(_) => format!("it took more than {} MiB of memory", limits.compile_memory_bytes >> 20),
        None => text.strip_prefix("does not compile: ").unwrap_or(text).to_owned(),
    }
}

fn refused(error: wasmtime::Error) -> Refusal {
    Refusal::Compile(format!("{error:#}"))
}

/// Lets what implements `Hash` go into a name that is the same in every process.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
